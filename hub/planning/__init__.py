"""What a draft does to the timeline: plain functions over what is loaded, which never wait.

Read in this order: :mod:`workspace`, :mod:`rules`, :mod:`planner` (one function a draft), then
what it uses: :mod:`entries`, :mod:`folding`, :mod:`identity`, :mod:`conversations`,
:mod:`commands`, :mod:`erasure`.
"""
