"""Many runs seen through git and DVC: tuning, comparison page, results, model info; and on other machines.

In: dvc.lock, metrics and experiments. Out: tables and pages.
May import: every room above.
"""
