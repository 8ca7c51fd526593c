"""medtranslate in 3D Slicer: a module that makes an MRI of a head CT, or a CT of a head MRI.

`MedTranslateLogic` does the work and can be used from Slicer's Python console. The volume is saved
as NIfTI, converted by `medtranslate.convert` with all its checks, and loaded again.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import slicer
from slicer.ScriptedLoadableModule import (
    ScriptedLoadableModule,
    ScriptedLoadableModuleLogic,
    ScriptedLoadableModuleWidget,
)

MADE = {"mri": ("CT", "MR"), "ct": ("MR", "CT")}
"""Modality of the source and of the result, by what is made."""


class MedTranslate(ScriptedLoadableModule):
    """What Slicer shows of the module in its menus."""

    def __init__(self, parent: Any) -> None:
        super().__init__(parent)
        parent.title = "MedTranslate"
        parent.categories = ["Image Synthesis"]
        parent.dependencies = []
        parent.contributors = ["The medtranslate developers"]
        parent.helpText = (
            "Turns a brain CT into an MRI and an MRI into a CT. Results are synthetic: not for "
            "diagnosis, dose or attenuation. Install medtranslate into Slicer first (see README)."
        )


class MedTranslateWidget(ScriptedLoadableModuleWidget):
    """The panel: a volume, what to make of it, and a button."""

    def setup(self) -> None:
        """Build the panel."""
        super().setup()
        import ctk
        import qt

        box = ctk.ctkCollapsibleButton()
        box.text = "Translate"
        self.layout.addWidget(box)
        form = qt.QFormLayout(box)
        self.volume = slicer.qMRMLNodeComboBox()
        self.volume.nodeTypes = ["vtkMRMLScalarVolumeNode"]
        self.volume.setMRMLScene(slicer.mrmlScene)
        self.to = qt.QComboBox()
        for name in MADE:
            self.to.addItem(name)
        self.force = qt.QCheckBox("convert what the domain check refuses")
        self.run = qt.QPushButton("Translate")
        self.run.clicked.connect(self.translate)
        self.message = qt.QLabel()
        self.message.wordWrap = True
        for label, widget in (("Volume", self.volume), ("To", self.to), ("", self.force)):
            form.addRow(label, widget)
        form.addRow(self.run)
        form.addRow(self.message)
        self.layout.addStretch(1)

    def translate(self) -> None:
        """Translate the chosen volume, and show what the checks found, or why it failed."""
        with slicer.util.tryWithErrorDisplay("Translation failed.", waitCursor=True):
            logic = MedTranslateLogic()
            made = logic.translate(
                self.volume.currentNode(),
                to=self.to.currentText,
                force=self.force.checked,
                progress=self._show,
            )
            self.message.text = "\n".join(made["notes"]) or made["label"]

    def _show(self, share: float) -> None:
        self.message.text = f"{share:.0%}"
        slicer.app.processEvents()


class MedTranslateLogic(ScriptedLoadableModuleLogic):
    """Translate volumes of the scene."""

    def translate(
        self,
        volume: Any,
        *,
        to: str,
        force: bool = False,
        progress: Any = lambda share: None,
        **options: Any,
    ) -> dict[str, Any]:
        """Translate a volume of the scene, and load the result and its error map.

        Parameters
        ----------
        volume : vtkMRMLScalarVolumeNode
            A CT in HU, or an MR.
        to : str
            ``"mri"`` or ``"ct"``.
        force : bool
            Translate what the domain check refuses.
        progress : function
            Called with the share that is done, 0 to 1.
        **options
            Of `medtranslate.convert`, such as ``bundle`` or ``device``.

        Returns
        -------
        dict
            ``"volume"`` and ``"error"``, the new nodes (the second is None where the model has no
            way back), ``"label"``, and ``"notes"`` of the checks.

        Raises
        ------
        medtranslate.errors.MedTranslateError
            The volume cannot be translated; the message says why.
        """
        from medtranslate import convert
        from medtranslate.conversion import Observer
        from medtranslate.errors import InvalidOption

        if volume is None:
            raise InvalidOption("no volume is chosen")
        source, made = MADE[to]

        class Progress(Observer):
            def progress(self, name: str, done: int, total: int) -> None:
                progress(done / total if total else 0.0)

        with tempfile.TemporaryDirectory() as folder:
            scan = Path(folder, "scan.nii.gz")
            slicer.util.saveNode(volume, str(scan))
            done = convert(
                scan,
                to=to,
                modality=source,
                preview=False,
                map=True,
                force=force,
                observer=Progress(),
                **options,
            )
            name = f"{volume.GetName()} SYNTHETIC {made}"
            result = slicer.util.loadVolume(str(done.output), {"name": name})
            error = None
            if done.error_map is not None:
                label = f"{volume.GetName()} cycle error"
                error = slicer.util.loadVolume(str(done.error_map), {"name": label, "show": False})
        return {
            "volume": result,
            "error": error,
            "label": done.synthesis["label"],
            "notes": list(done.notes),
        }
