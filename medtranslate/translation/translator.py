"""The translator: a scan in, the same scan in the other modality out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

import nibabel as nib
import numpy as np
import torch
from monai.data import MetaTensor
from numpy.typing import ArrayLike
from torch import nn

from medtranslate.bundle import Bundle
from medtranslate.device import Device, Engine, Progress
from medtranslate.domain_check import DomainCheck, Judgment, load_domain, quality_record
from medtranslate.errors import OutOfDomain, Unsupported, WrongModality
from medtranslate.imaging.guess_modality import guess_volume
from medtranslate.imaging.memory import ScanLike, TensorScan, as_image, to_nibabel
from medtranslate.imaging.source import SourceRecord, array_source, check_modality, first_file
from medtranslate.modality import Modality, check_contrast
from medtranslate.networks import fix_contrast
from medtranslate.transforms import Prepared, Recipe
from medtranslate.transforms.head import full_white
from medtranslate.translation.contrast import (
    ContrastClassifier,
    ToldContrast,
    load_contrast_classifier,
)

_BATCHES = 16  # translated before their slices are put in place


@dataclass(frozen=True, eq=False)
class Translator:
    """A loaded model on a device; a translation does not change it.

    Parameters
    ----------
    bundle : Bundle
        The model.
    device : Device
        Where it runs.
    networks : mapping of str to nn.Module
        By target, the generators as settled on the device.
    domain_check : DomainCheck, optional
        The check of what is translated; None where the bundle carries none.
    contrast_classifier : ContrastClassifier, optional
        Tells the contrast of an MRI that is given; None where the bundle carries none.
    contrast : str
        The contrast of all MRI, such as ``"flair"``: of those made, and of those given; ``""``
        makes the model's first one, and leaves open which one is given.

    Examples
    --------
    >>> Translator.load(device="cpu", precision="float32")
    Translator(brain_ct_mri 1.0.0, to mri or ct, in t1, on cpu in float32)
    """

    bundle: Bundle
    device: Device
    networks: Mapping[str, nn.Module]
    domain_check: DomainCheck | None = None
    contrast_classifier: ContrastClassifier | None = None
    contrast: str = ""
    # Each is copied and settled once, however many scans ask for it.
    _by_contrast: dict[str, Translator] = field(default_factory=dict, init=False)

    def __repr__(self) -> str:
        model = f"{self.bundle.name} {self.bundle.version}"
        where = f"on {self.device.processor} in {self.device.precision}"
        contrast = f", in {self.made_contrast}" if self.made_contrast else ""
        engine = "" if self.device.engine is Engine.TORCH else f" by {self.device.engine}"
        return f"Translator({model}, to {' or '.join(self.networks)}{contrast}, {where}{engine})"

    @classmethod
    def load(
        cls,
        bundle: str | Path | Bundle | None = None,
        *,
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | None = None,
        contrast: str = "",
        engine: str = "torch",
    ) -> Translator:
        """Load a model: the shipped one, or a bundle's folder.

        Parameters
        ----------
        bundle : path or Bundle, optional
            The model; the shipped one where left out.
        device, precision, batch_size, engine
            As `Device.pick` takes them. With ``engine="openvino"`` a generator is compiled for the
            CPU when it is first used, which takes seconds.
        contrast : str
            Of the MRI that is made, where the model has several; by default its first.

        Raises
        ------
        InvalidOption
            If the model does not make an MRI of this contrast.
        ModelUnusable
            If there is no such bundle or it is damaged.
        DeviceUnusable
            If there is no such device, or the engine does not compute on it or is not installed.
        """
        loaded = bundle if isinstance(bundle, Bundle) else Bundle.load(bundle)
        wanted = loaded.precision if precision == "auto" else precision
        where = Device.pick(device, wanted, batch_size, engine)
        settled = {to: where.settle(generator_of(loaded, to, contrast)) for to in loaded.generators}
        classifier = load_contrast_classifier(loaded)
        return cls(loaded, where, settled, load_domain(loaded), classifier, contrast)

    @property
    def made_contrast(self) -> str:
        """The contrast of the MRI that is made; ``""`` where the model has no choice."""
        return self.contrast or self.bundle.default_contrast

    def for_contrast(self, contrast: str) -> Translator:
        """Return the same translator for MRI of a contrast, made or given; itself for ``""``.

        Raises
        ------
        InvalidOption
            If the model does not make an MRI of this contrast.
        """
        if contrast in ("", self.contrast):
            return self
        if contrast not in self._by_contrast:
            networks = {to: self._settled(to, contrast) for to in self.networks}
            self._by_contrast[contrast] = replace(self, networks=networks, contrast=contrast)
        return self._by_contrast[contrast]

    def for_scan(self, prepared: Prepared, source: Mapping[str, Any]) -> Translator:
        """Return the translator for the contrast that a given MRI is clearly of; else itself.

        Header or file name may state it (``source["contrast"]``); otherwise its slices tell it.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`; its slices must not be translated yet.
        source : mapping
            The scan's source record.
        """
        clear = self._stated(source)
        if not clear and (told := self.tell_contrast(prepared, source)) is not None:
            clear = told.clear
        return self.for_contrast(clear) if clear in self.bundle.contrasts else self

    def tell_contrast(self, prepared: Prepared, source: Mapping[str, Any]) -> ToldContrast | None:
        """Tell the contrast of a given MRI from its slices.

        Returns
        -------
        ToldContrast or None
            None for a CT, where the translator has been told the contrast, and where the model
            carries no classifier.
        """
        if self.contrast or self.contrast_classifier is None or source["modality"] != Modality.MR:
            return None
        return self.contrast_classifier.tell(prepared.slices, prepared.head)

    def _stated(self, source: Mapping[str, Any]) -> str:
        if self.contrast or source["modality"] != Modality.MR:
            return ""
        stated = str(source.get("contrast", ""))
        return stated if stated in self.bundle.contrasts else ""

    def _settled(self, to: str, contrast: str) -> nn.Module:
        """Return the generator for a contrast; the one that is there, where its code is that."""
        code = self.bundle.contrast_code
        if code(contrast, to) == code(self.contrast, to):
            return self.networks[to]
        return self.device.settle(generator_of(self.bundle, to, contrast))

    @overload
    def translate(
        self,
        image: nib.Nifti1Image,
        *,
        to: str,
        modality: str = ...,
        check: bool = ...,
        force: bool = ...,
        progress: Progress = ...,
        contrast: str = ...,
    ) -> nib.Nifti1Image: ...

    @overload
    def translate(
        self,
        image: TensorScan,
        *,
        to: str,
        affine: ArrayLike | None = ...,
        modality: str = ...,
        check: bool = ...,
        force: bool = ...,
        progress: Progress = ...,
        contrast: str = ...,
    ) -> MetaTensor: ...

    def translate(
        self,
        image: ScanLike,
        *,
        to: str,
        affine: ArrayLike | None = None,
        modality: str = "",
        check: bool = True,
        force: bool = False,
        progress: Progress = lambda done, of: None,
        contrast: str = "",
    ) -> MetaTensor | nib.Nifti1Image:
        """Translate a scan.

        Parameters
        ----------
        image : path, MetaTensor, nibabel image, SimpleITK image, array or list of datasets
            In physical units; as `medtranslate.imaging.as_image` takes it.
        to : str
            ``"mri"`` or ``"ct"``.
        affine : array-like (4, 4), optional
            Of an array: voxel to world, RAS mm.
        modality : str
            ``"CT"`` or ``"MR"`` settles what the image is; by default its source says so, or a
            guess from its values.
        check : bool
            Run the domain check, where the model carries one.
        force : bool
            Translate what the domain check refuses; the refusal is recorded all the same.
        progress : function
            Called with the slices done and the slices in all.
        contrast : str
            Of the MRI that is made or given, where the model has several; by default the
            translator's.

        Returns
        -------
        MetaTensor or nibabel image
            A nibabel image for a nibabel image (int16, with the label in its header), else a
            MetaTensor of the same shape, affine and metadata on the CPU, float32 whole numbers:
            HU in the bundle's range inside the head and -1000 elsewhere for CT, 0 to 4095 in
            arbitrary units for MR, gray levels for 2D images. ``meta["synthesis"]`` says which
            model made it, ``meta["quality"]["domain"]`` what the domain check found
            (``docs/architecture.md`` has the keys).

        Raises
        ------
        WrongModality
            If the image is of the target modality already, or its modality is unknown.
        OutOfDomain
            If there is no head in it, or the domain check refuses it and `force` is False.
        Unsupported
            If the geometry cannot be cut into axial slices, or voxels are not finite.
        ModelUnusable
            If the model makes no such target.
        InvalidOption
            If the model does not make an MRI of this contrast.
        """
        if contrast:
            check_contrast(contrast)
        scan = as_image(image, affine=affine, modality=modality)
        source = source_of(scan, modality)
        _, prepared = self.prepare(scan, source, to)
        judgment = self.judge(prepared, source) if check else None
        if judgment is not None and not force:
            judgment.raise_if_refused(source)
        chosen = self.for_contrast(contrast).for_scan(prepared, source)
        result = chosen.translate_prepared(scan, source, prepared, to=to, progress=progress)
        result.meta["quality"] = {"domain": quality_record(judgment)}
        return to_nibabel(result) if isinstance(image, nib.Nifti1Image) else result

    def judge(self, prepared: Prepared, source: Mapping[str, Any]) -> Judgment | None:
        """Run the domain check on a prepared scan.

        Parameters
        ----------
        prepared : Prepared
            From `prepare`; its slices must not be translated yet.
        source : mapping
            The scan's source record.

        Returns
        -------
        Judgment or None
            None where the model carries no domain check.
        """
        return None if self.domain_check is None else self.domain_check.judge(prepared, source)

    def translate_prepared(
        self,
        image: MetaTensor,
        source: Mapping[str, Any],
        prepared: Prepared,
        *,
        to: str,
        as_written: bool = False,
        progress: Progress = lambda done, of: None,
    ) -> MetaTensor:
        """Translate what `prepare` gave, for who looks at it before the network does.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            In physical units.
        source : mapping
            Its source record.
        prepared : Prepared
            From `prepare`. Its slices give way to the result's, so that a long series is held only
            once at this size; its head and placement stay as they are.
        to : str
            ``"mri"`` or ``"ct"``.
        as_written : bool
            Return the voxels in the type that is written, which takes half the memory of float32
            for a volume and a quarter for 2D images.
        progress : function
            Called with the slices done and the slices in all.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            As `translate`; with `as_written` in ``synthesis["dtype"]`` where that type holds all
            that the target's recipe may write.
        """
        slices = prepared.slices
        slices.data = self._translated(prepared, to, progress)
        return self.finish(slices, prepared, image, source, to=to, as_written=as_written)

    def finish(
        self,
        slices: torch.Tensor,
        prepared: Prepared,
        image: MetaTensor,
        source: Mapping[str, Any],
        *,
        to: str,
        as_written: bool = False,
    ) -> MetaTensor:
        """Take translated slices back: to the geometry of the image, in the units of the target.

        Parameters
        ----------
        slices : float tensor (N, 1, 256, 256)
            In [-1, 1], all slices of `prepared`.
        prepared, image, source, to, as_written
            As `translate_prepared`.

        Returns
        -------
        MetaTensor (1, X, Y, Z)
            As `translate_prepared`.
        """
        target = self.bundle.recipe(self._made(to), source["kind"])
        synthesis = self.synthesis(source, to, target)
        dtype = _type_to_write(target, synthesis["dtype"]) if as_written else torch.float32
        result = target.restore(slices, prepared, dtype)
        # All of it, so that MONAI's inverses and savers know the image again.
        result.copy_meta_from(image)
        result.affine = image.affine.clone()
        result.meta["source"] = SourceRecord.of(source)
        result.meta["synthesis"] = synthesis
        return result

    def prepare(
        self, image: MetaTensor, source: Mapping[str, Any], to: str
    ) -> tuple[Recipe, Prepared]:
        """Check what an image is and take it to the network's slices.

        Parameters
        ----------
        image : MetaTensor (1, X, Y, Z)
            In physical units.
        source : mapping
            Its source record (`source_of`).
        to : str
            ``"mri"`` or ``"ct"``.

        Returns
        -------
        (Recipe, Prepared)
            The recipe of the target, and the prepared source.

        Raises
        ------
        WrongModality, OutOfDomain, Unsupported, ModelUnusable
            As `translate`.
        """
        path, given = first_file(source), source["modality"]
        self.check(image, source, to)
        try:
            prepared = self.bundle.recipe(given, source["kind"]).prepare(image)
        except Unsupported as error:
            raise Unsupported(error.fault, path=path, remedy=error.remedy) from error
        if not prepared.head.any():
            raise OutOfDomain("there is no head in it", path=path, remedy=_if_dark(image, source))
        return self.bundle.recipe(self._made(to), source["kind"]), prepared

    def check(self, image: MetaTensor, source: Mapping[str, Any], to: str) -> None:
        """Refuse an image that is not of the other modality, or not finite.

        Parameters
        ----------
        image, source, to
            As `prepare`.

        Raises
        ------
        WrongModality, Unsupported, ModelUnusable
            As `translate`.
        """
        path = first_file(source)
        given, wanted = source["modality"], self._made(to)
        if not _finite(image):
            raise Unsupported("holds voxels that are NaN or infinite", path=path)
        if not given:
            hint = "say which: --from ct or --from mri"
            raise WrongModality("cannot tell whether this is CT or MR", path=path, remedy=hint)
        if given == wanted:
            basis = source["modality_basis"]
            remedy = f"make {wanted.other} of it with --to {wanted.other.target}"
            if basis.startswith("guess"):
                remedy += f", or say what it is with --from {wanted.other.target}"
            raise WrongModality(f"is {wanted} already ({basis})", path=path, remedy=remedy)

    def translate_slices(
        self,
        slices: torch.Tensor,
        *,
        to: str,
        in_window: bool = False,
        progress: Progress = lambda done, of: None,
    ) -> torch.Tensor:
        """Send network slices through a generator.

        Parameters
        ----------
        slices : float tensor (N, 1, 256, 256)
            In [-1, 1].
        to : str
            ``"mri"`` or ``"ct"``.
        in_window : bool
            Return slices in [-1, 1] as a scan of that modality is prepared: what the generator
            back takes, and what is compared with a truth. A generator that makes CT of all HU
            gives the brain window `WINDOW_SHARE` of its range otherwise (`ToUnits`).
        progress : function
            Called with the slices done and the slices in all.

        Returns
        -------
        float tensor (N, 1, 256, 256)
            For `finish`, or in the window.
        """
        made = self._made(to)
        slices = self.device.run(self.networks[made.target], slices, progress)
        return self.bundle.in_window(slices, made) if in_window else slices

    def synthesis(self, source: Mapping[str, Any], to: str, target: Recipe) -> dict[str, Any]:
        """Say in builtins which model makes what (``docs/architecture.md``)."""
        bundle, made = self.bundle, Modality.parse(to)
        model = f"{bundle.name} {bundle.version}"
        contrast = self.made_contrast if made is Modality.MR else ""
        shown = f"{made} {contrast.upper()}" if contrast else made.value
        volume = source["kind"] == "volume"
        ct_volume = volume and made is Modality.CT
        return {
            "modality": made.value,
            "model": bundle.name,
            "version": bundle.version,
            "weights_sha256": bundle.generator(made.target).sha256,
            "label": f"SYNTHETIC {shown} from {source['modality']}, {model}, NOT FOR DIAGNOSIS",
            "contrast": contrast,
            "source_contrast": "" if made is Modality.MR else self.contrast,
            "dtype": "int16" if volume else "uint8",
            "background": target.background,
            "window": [target.shown.low, target.shown.high] if ct_volume else [],
            "range": [target.written.low, target.written.high] if ct_volume else [],
            "grain": 0.0,
        }

    def _translated(self, prepared: Prepared, to: str, progress: Progress) -> torch.Tensor:
        """Translate the slices that show a head; one without is background already."""
        held = torch.from_numpy(np.flatnonzero(prepared.holds.numpy()))
        slices = torch.full_like(prepared.slices, -1, dtype=self.device.kept)
        done = 0

        def shown(of_part: int, _: int) -> None:
            progress(done + of_part, len(held))

        # Some batches at a time: of a long series neither a copy nor float32 results are held.
        for chosen in held.split(_BATCHES * self.device.batch):
            made = self.translate_slices(prepared.slices[chosen], to=to, progress=shown)
            slices[chosen] = made.to(slices)
            done += len(chosen)
        return slices

    def _made(self, to: str) -> Modality:
        """Return the modality that a target is, if this model makes it."""
        made = Modality.parse(to, "to")
        self.bundle.generator(made.target)
        return made


def _if_dark(image: MetaTensor, source: Mapping[str, Any]) -> str | None:
    """Say what to do about a 2D image whose gray levels do not fill its bits, if it is one."""
    if source["kind"] != "image":
        return None
    white, brightest = full_white(image), float(image.max())
    if not 0 < brightest < white / 4:
        return None
    return (
        f"its brightest gray is {brightest:.0f} of {white:.0f}; "
        f"spread its grays from 0 to {white:.0f}"
    )


def _type_to_write(target: Recipe, name: str) -> torch.dtype:
    """Return the torch type of a name if it holds all that a recipe writes, else float32."""
    dtype: torch.dtype = getattr(torch, name)
    limits, values = (
        torch.iinfo(dtype),
        (target.background, target.written.low, target.written.high),
    )
    exact = all(limits.min <= round(one) <= limits.max for one in values)
    return dtype if exact and float(target.background).is_integer() else torch.float32


def _finite(image: MetaTensor) -> bool:
    """Tell whether all voxels are finite; a finite sum says so forty times sooner."""
    voxels = image.as_tensor().detach()
    return bool(torch.isfinite(voxels.sum()) or torch.isfinite(voxels).all())


def generator_of(bundle: Bundle, to: str, contrast: str) -> nn.Module:
    """Return a bundle's generator with the contrast fixed, where it takes any."""
    network = bundle.generator(to).network
    code = bundle.contrast_code(contrast, to)
    return fix_contrast(network, code) if code else network


def source_of(image: MetaTensor, modality: str = "") -> dict[str, Any]:
    """Return the image's source record, made up for an image without one.

    Parameters
    ----------
    image : MetaTensor (1, X, Y, Z)
        With or without ``meta["source"]``.
    modality : str
        ``"CT"`` or ``"MR"`` settles it over what the source says.

    Returns
    -------
    dict
        A copy; ``docs/architecture.md`` has the keys.
    """
    source = dict(image.meta.get("source") or _from_array(image))
    if given := check_modality(modality):
        source |= {"modality": given, "modality_basis": "given"}
    return source


def _from_array(image: MetaTensor) -> dict[str, Any]:
    guess, basis = guess_volume(image.as_tensor()[0].detach().cpu().float().numpy())
    return array_source(image, modality=guess, basis=basis)
