"""What plugin authors' tests import: contract suites, a fake hub, a clock that is set by hand."""
