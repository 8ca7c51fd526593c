"""A nipype interface of ``medtranslate convert``: one scan in, its translation out.

from nipype import Node
node = Node(ConvertScan(in_file="ct.nii.gz", to="mri"), name="convert")
"""

from pathlib import Path

from nipype.interfaces.base import (
    BaseInterfaceInputSpec,
    File,
    SimpleInterface,
    TraitedSpec,
    traits,
)


class ConvertInputSpec(BaseInterfaceInputSpec):
    """What is converted, and to what."""

    in_file = File(exists=True, mandatory=True, desc="scan: NIfTI, MetaImage or NRRD")
    to = traits.Enum("mri", "ct", mandatory=True, desc="modality to make")
    options = traits.Dict(desc="fields of ConversionOptions, such as {'device': 'cpu'}")


class ConvertOutputSpec(TraitedSpec):
    """What was made of it."""

    out_file = File(exists=True, desc="result, synthetic")
    cycle_error = traits.Float(desc="mean cycle error as a share of the range")
    domain = traits.Str(desc="verdict of the domain check")


class ConvertScan(SimpleInterface):
    """Convert a scan into the folder of the node, with all checks of the command."""

    input_spec, output_spec = ConvertInputSpec, ConvertOutputSpec

    def _run_interface(self, runtime):
        from medtranslate import convert

        options = self.inputs.options if self.inputs.options else {}
        # A node that runs again replaces its own result.
        fixed = {"output": f"{runtime.cwd}/", "overwrite": True}
        done = convert(Path(self.inputs.in_file), to=self.inputs.to, **{**options, **fixed})
        self._results["out_file"] = str(done.output)
        self._results["domain"] = done.checks["domain"]["verdict"]
        if "cycle_error" in done.checks:
            self._results["cycle_error"] = done.checks["cycle_error"]["share_of_range"]
        return runtime
