"""A pydra task of ``medtranslate convert``: one scan in, its translation out; split for many.

task = convert_scan(to="mri").split("in_file", in_file=["a.nii.gz", "b.nii.gz"])
with pydra.Submitter(plugin="cf") as submitter:
    submitter(task)
[one.output.out_file for one in task.result()]
"""

from pathlib import Path

import pydra


@pydra.mark.task
@pydra.mark.annotate({"return": {"out_file": str, "domain": str, "cycle_error": float}})
def convert_scan(in_file: str, to: str, options: dict | None = None):
    """Convert a scan into the folder of the task, with all checks of the command.

    Parameters
    ----------
    in_file : str
        NIfTI, MetaImage or NRRD.
    to : str
        ``"mri"`` or ``"ct"``.
    options : dict, optional
        Fields of ``medtranslate.ConversionOptions``, such as ``{"device": "cpu"}``.

    Returns
    -------
    out_file : str
        The result, synthetic.
    domain : str
        Verdict of the domain check.
    cycle_error : float
        Mean cycle error as a share of the range; NaN where none was measured.
    """
    from medtranslate import convert

    # A task that runs again replaces its own result.
    fixed = {"output": f"{Path.cwd()}/", "overwrite": True}
    done = convert(in_file, to=to, **{**(options or {}), **fixed})
    error = done.checks.get("cycle_error", {}).get("share_of_range", float("nan"))
    return str(done.output), done.checks["domain"]["verdict"], error
