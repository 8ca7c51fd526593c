"""The rules file of the node: who may send, which series are converted, and where results go.

It is YAML, checked as a whole before anything starts; a typo is one line that names the key. Paths
are relative to the file.
"""

from __future__ import annotations

import ipaddress
import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    PositiveFloat,
    PositiveInt,
    ValidationInfo,
    model_validator,
)

from medtranslate.device import Engine, Precision, check_device_name
from medtranslate.modality import Modality, check_contrast
from medtranslate.settings_file import SettingsPart, load_settings, near

_LOOPBACK = ("127.0.0.1", "::1")


def _ae_title(text: str) -> str:
    title = text.strip()
    if not 1 <= len(title) <= 16 or not title.isascii() or not title.isprintable() or "\\" in title:
        raise ValueError("an AE title is 1 to 16 printable ASCII characters without a backslash")
    return title


def _pattern(text: str) -> str:
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


def _path(path: Path, info: ValidationInfo) -> Path:
    """Resolve a path against the folder of the rules file."""
    return Path((info.context or {}).get("folder", ""), path.expanduser()).absolute()


def _present(path: Path, info: ValidationInfo) -> Path:
    path = _path(path, info)
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    return path


def _network(text: str) -> str:
    ipaddress.ip_network(text, strict=False)
    return text


def _target(text: str) -> str:
    return Modality.parse(text).target


def _engine(text: str) -> str:
    return Engine.parse(text).value


def _precision(text: str) -> str:
    return Precision.parse(text).value


AETitle = Annotated[str, AfterValidator(_ae_title)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,40}$")]
Port = Annotated[int, Field(ge=1, le=65535)]
Pattern = Annotated[str, AfterValidator(_pattern)]
AnyPath = Annotated[Path, AfterValidator(_path)]
ExistingFile = Annotated[Path, AfterValidator(_present)]
Network = Annotated[str, AfterValidator(_network)]


class Tls(SettingsPart):
    """Certificates of a secured connection, PEM files."""

    certificate: ExistingFile | None = None
    """Own certificate; required to listen."""
    key: ExistingFile | None = None
    """Private key of the certificate; by default in the same file."""
    authority: ExistingFile | None = None
    """Authority that signed the other side's certificate. Listening with it, the node accepts only
    senders that have such a certificate; sending without it, it trusts the system's authorities."""


class Listen(SettingsPart):
    """Where the node receives."""

    ae_titles: Annotated[list[AETitle], Field(min_length=1)]
    """AE titles that the node answers to; the first is its own when it sends."""
    host: str = "127.0.0.1"
    """Address to bind to: by default this machine alone."""
    port: Annotated[int, Field(ge=0, le=65535)] = 11112
    """TCP port."""
    tls: Tls | None = None
    """Accept secured connections only."""

    @model_validator(mode="after")
    def _certified(self) -> Listen:
        if self.tls and self.tls.certificate is None:
            raise ValueError("tls.certificate is missing: a server needs one")
        return self


class Sender(SettingsPart):
    """Who may send: an AE title from certain hosts."""

    ae_title: AETitle
    """Calling AE title."""
    hosts: Annotated[list[Network], Field(min_length=1)] = list(_LOOPBACK)
    """Addresses and networks (``10.1.0.0/16``) that it may come from."""

    def admits(self, ae_title: str, address: str) -> bool:
        """Tell whether this sender may have that AE title and IP address."""
        host = ipaddress.ip_address(address.partition("%")[0])
        mapped = getattr(host, "ipv4_mapped", None) or host
        networks = (ipaddress.ip_network(one, strict=False) for one in self.hosts)
        return ae_title.strip() == self.ae_title and any(mapped in one for one in networks)


class DicomReceiver(SettingsPart):
    """A receiver that takes C-STORE."""

    kind: Literal["dicom"]
    """``dicom``"""
    host: str
    """Its address."""
    port: Port
    """Its TCP port."""
    ae_title: AETitle
    """Its AE title."""
    tls: Tls | None = None
    """Send over a secured connection."""
    timeout: PositiveFloat = 60.0
    """Seconds to wait for an answer."""


class StowReceiver(SettingsPart):
    """A receiver that takes STOW-RS (DICOMweb)."""

    kind: Literal["stow"]
    """``stow``"""
    url: Annotated[str, Field(pattern=r"^https?://[^/]+")]
    """Base URL of the service, such as ``https://pacs.example/dicom-web``."""
    token_file: ExistingFile | None = None
    """File with a bearer token; it is read for each delivery."""
    user: str = ""
    """Name for basic authentication."""
    password_file: ExistingFile | None = None
    """File with the password of `user`."""
    tls: Tls | None = None
    """Certificates for https beyond the system's."""
    timeout: PositiveFloat = 60.0
    """Seconds to wait for an answer."""


class FolderReceiver(SettingsPart):
    """A folder that results are copied to, a folder for each series."""

    kind: Literal["folder"]
    """``folder``"""
    path: AnyPath
    """The folder; it must exist when a result is delivered."""


Receiver = Annotated[
    DicomReceiver | StowReceiver | FolderReceiver,
    Field(discriminator="kind"),
]


class When(SettingsPart):
    """Which series a rule takes; what is left out matches everything."""

    modality: str = ""
    """``CT`` or ``MR``; by default the one that the rule can convert."""
    body_part: list[str] = []
    """BodyPartExamined is one of these, in any case."""
    description: Pattern = ""
    """Regular expression found in SeriesDescription; ``(?i)`` ignores case."""
    called: list[AETitle] = []
    """AE titles that the sender called the node by."""
    calling: list[AETitle] = []
    """AE titles of the sender."""


class HoldIf(SettingsPart):
    """Which verdicts of the checks hold a result back for somebody to look at."""

    domain_warned: bool = True
    """The domain check warns of the scan. What it refuses is never converted."""
    expected_error: PositiveFloat | None = None
    """The expected error exceeds this share of the range of values, or the model predicts none."""
    cycle_error: PositiveFloat | None = None
    """The cycle error exceeds this share of the range of values, or was not measured."""
    variation: PositiveFloat | None = None
    """The variation, which is measured then, exceeds this share of the range of values."""
    outside_field_voxels: Annotated[int, Field(ge=0)] | None = None
    """More voxels of tissue than this lie outside the model's field of view."""
    uneven: bool = False
    """The slices are not evenly spaced: one may be missing."""


class Rule(SettingsPart):
    """Which series are converted, how, and to whom results go."""

    name: Annotated[str, Field(min_length=1, max_length=60)]
    """Name, for the log and the status page."""
    when: When = When()
    """Which series."""
    to: Annotated[str, AfterValidator(_target)]
    """``mri`` or ``ct``: the modality to make."""
    contrast: Annotated[str, AfterValidator(str.lower)] = ""
    """Contrast of the MRI to make, of those that the model has (by default its first), or of the
    MRI that comes (by default told from its voxels)."""
    send_to: Annotated[list[Name], Field(min_length=1)]
    """Names of receivers; each gets every result."""
    hold_if: HoldIf = HoldIf()
    """Which verdicts hold a result back."""
    map: bool = False
    """Send the cycle error along, as a Parametric Map and a structured report."""
    keep_private: bool = False
    """Copy private attributes of the source, which may identify the patient."""

    @property
    def modality(self) -> str:
        """The modality that the rule takes, as DICOM writes it."""
        return Modality.parse(self.to).other.value

    @model_validator(mode="after")
    def _convertible(self) -> Rule:
        if self.when.modality and Modality.parse(self.when.modality).value != self.modality:
            raise ValueError(f"when.modality {self.when.modality} cannot be converted to {self.to}")
        if self.contrast:
            check_contrast(self.contrast)
        return self


class Quiet(SettingsPart):
    """When a series counts as received."""

    seconds: Annotated[float, Field(ge=0)] = 30.0
    """So long nothing more of it has come."""
    wait_for: Literal["series", "study"] = "series"
    """Whether the other series of its study must be quiet too."""
    longest_seconds: PositiveFloat = 7200.0
    """A series that is still not quiet after so long goes into quarantine."""
    half_sent_seconds: PositiveFloat = 900.0
    """A series whose association was cut off goes into quarantine unless it is sent again within
    this time."""


class Retry(SettingsPart):
    """How often a delivery that failed is tried again; the pause doubles each time."""

    first_seconds: PositiveFloat = 5.0
    """Pause after the first failure."""
    longest_seconds: PositiveFloat = 600.0
    """Longest pause."""
    refusals: PositiveInt = 5
    """A result that a receiver has refused so often goes into quarantine."""
    give_up_hours: PositiveFloat = 168.0
    """A result that could not be delivered for so long goes into quarantine."""


class NodeLimits(SettingsPart):
    """What the node takes at most; beyond it a sender is told that the node is out of resources."""

    instance_mb: PositiveFloat = 512.0
    """Size of one instance, MB."""
    series_instances: PositiveInt = 5000
    """Instances of one series."""
    spool_gb: PositiveFloat = 50.0
    """Size of everything in the spool, GB."""
    free_gb: Annotated[float, Field(ge=0)] = 1.0
    """Space that stays free on the spool's disk, GB."""
    spool_series: PositiveInt = 2000
    """Series in the spool that are neither sent nor in quarantine."""
    associations: PositiveInt = 10
    """Associations at one time."""
    conversions: PositiveInt = 5
    """A series during whose conversion the node has died so often goes into quarantine."""
    keep_sent_days: PositiveFloat = 30.0
    """How long it is remembered that a series was sent, so that it is not converted again."""


class Status(SettingsPart):
    """Where the status page and the Prometheus figures (``/metrics``) are served."""

    host: str = "127.0.0.1"
    """Address to bind to."""
    port: Annotated[int, Field(ge=0, le=65535)] = 9112
    """TCP port."""


class Model(SettingsPart):
    """The model that converts, and where it runs."""

    bundle: AnyPath | None = None
    """Folder of the bundle; by default the shipped one."""
    device: Annotated[str, AfterValidator(check_device_name)] = "auto"
    """As ``--device`` of ``medtranslate convert``."""
    engine: Annotated[str, AfterValidator(_engine)] = "torch"
    """As ``--engine``."""
    precision: Annotated[str, AfterValidator(_precision)] = "auto"
    """As ``--precision``."""
    batch_size: PositiveInt | None = None
    """As ``--batch-size``."""

    @model_validator(mode="after")
    def _computes(self) -> Model:
        Engine(self.engine).device(self.device)
        return self


class NodeRules(SettingsPart):
    """Everything that a rules file says.

    Examples
    --------
    >>> rules = NodeRules(
    ...     spool="spool",
    ...     listen={"ae_titles": ["SYNTH"]},
    ...     senders=[{"ae_title": "CT1"}],
    ...     receivers={"archive": {"kind": "folder", "path": "out"}},
    ...     rules=[{"name": "heads", "to": "mri", "send_to": ["archive"]}],
    ... )
    >>> rules.rules[0].modality, rules.listen.host
    ('CT', '127.0.0.1')
    """

    spool: AnyPath
    """Folder of the spool, on a local disk; it is created."""
    listen: Listen
    """Where the node receives."""
    senders: Annotated[list[Sender], Field(min_length=1)]
    """Who may send; nobody else gets in."""
    receivers: Annotated[dict[Name, Receiver], Field(min_length=1)]
    """Who gets results, by name."""
    rules: Annotated[list[Rule], Field(min_length=1)]
    """The first rule that matches a series decides."""
    unmatched: Literal["refuse", "discard"] = "refuse"
    """What becomes of an instance that no rule takes: the sender is told so, or it is accepted and
    dropped."""
    quiet: Quiet = Quiet()
    """When a series counts as received."""
    retry: Retry = Retry()
    """How failed deliveries are repeated."""
    limits: NodeLimits = NodeLimits()
    """What the node takes at most."""
    status: Status | None = None
    """Serve a status page; by default there is none."""
    model: Model = Model()
    """The model that converts."""
    uid_seed: Annotated[str, Field(min_length=1)] = "medtranslate node"
    """Text that the UIDs of results are derived from: the same series has the same result."""

    @model_validator(mode="after")
    def _consistent(self) -> NodeRules:
        names = [rule.name for rule in self.rules]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two rules are called {name!r}")
        for number, rule in enumerate(self.rules):
            for receiver in rule.send_to:
                if receiver not in self.receivers:
                    hint = near(receiver, self.receivers)
                    raise ValueError(f"rules.{number}.send_to: no receiver {receiver!r}{hint}")
            for called in rule.when.called:
                if called not in self.listen.ae_titles:
                    hint = near(called, self.listen.ae_titles)
                    fault = f"rules.{number}.when.called: the node does not listen as {called!r}"
                    raise ValueError(fault + hint)
        return self

    def match(
        self, *, modality: str, body_part: str, description: str, called: str, calling: str
    ) -> Rule | None:
        """Return the first rule that takes a series, None if none does."""
        for rule in self.rules:
            when = rule.when
            parts = {one.strip().upper() for one in when.body_part}
            if (
                modality == rule.modality
                and (not parts or body_part.strip().upper() in parts)
                and (not when.description or re.search(when.description, description))
                and (not when.called or called in when.called)
                and (not when.calling or calling in when.calling)
            ):
                return rule
        return None

    def rule(self, name: str) -> Rule | None:
        """Return the rule of a name, None if there is none."""
        return next((rule for rule in self.rules if rule.name == name), None)


def load_rules(path: str | Path) -> NodeRules:
    """Read and check a rules file.

    Raises
    ------
    InputMissing
        There is no such file.
    InvalidOption
        It is no YAML, or a key or value is wrong; the message names it in one line.

    Examples
    --------
    >>> import tempfile
    >>> text = '''
    ... spool: spool
    ... listen: {ae_titles: [SYNTH]}
    ... senders: [{ae_title: CT1}]
    ... receivers: {out: {kind: folder, path: out}}
    ... rules: [{name: heads, to: mri, send_to: [out]}]
    ... '''
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     _ = Path(folder, "rules.yaml").write_text(text)
    ...     load_rules(Path(folder, "rules.yaml")).rules[0].modality
    'CT'
    """
    return load_settings(path, NodeRules, kinds=("dicom", "stow", "folder"))
