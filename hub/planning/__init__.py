"""What a draft does to the timeline: plain functions over what is loaded, which never wait.

Read in this order: :mod:`workspace`, :mod:`rules`, :mod:`planner` (which module plans a draft),
then one kind of draft after the other: :mod:`arrivals` and :mod:`history` (what :mod:`drafted` has
for both), :mod:`changes`, :mod:`who_is_who`, :mod:`commands`, :mod:`outcomes`; then what they use:
:mod:`entries`, :mod:`folding`, :mod:`identity`, :mod:`conversations`, :mod:`erasure`.
"""
