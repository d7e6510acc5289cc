"""What a submission must meet here and now: packs that can do it, and a webhook that would be called."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from inversion_app.codes import Code
from inversion_app.egress import looks_local
from inversion_app.errors import ProblemError
from inversion_app.settings import AppSettings
from inversion_worker.client import JobClient
from inversion_worker.contract import STEPS_WITHOUT_DETAIL, DetailInfo, JobOptions, PackInfo, StartKind

_OLDER = DetailInfo(px=0, after=0, steps=0)
"""Of a pack whose worker does not know detail."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """The same for every photo of a request."""

    tenant: str
    """Who submits."""
    packs: Sequence[PackInfo]
    """Of the workers alive now."""
    settings: AppSettings

    @classmethod
    async def now(cls, client: JobClient, tenant: str, settings: AppSettings) -> Terms:
        """Those of this moment. Raises: QueueFull, TooManyJobs, where one more would come to nothing."""
        await client.check_room(tenant)  # under an Idempotency-Key it has not been asked yet: see deps.check_room
        packs = [pack for worker in await client.workers() for pack in worker.packs]
        return cls(tenant=tenant, packs=packs, settings=settings)

    def settled(self, options: JobOptions, code: Code | None = None) -> JobOptions:
        """The options with the pack's own optimizer and numbers of steps, where none is said and the pack is known.

        Raises: ProblemError for options, or a code to start from, that nobody here can honour.
        """
        _check_webhook(options, self.tenant, self.settings)
        if not self.packs:
            return options  # with no worker alive nothing is known: the worker that takes the job checks again
        packs = _meant(options, self.packs)
        _check_pack(options, packs, code)
        options = _with_steps(options, packs, code)
        if options.optimizer is not None:
            return options
        defaults = {pack.default_optimizer for pack in packs}
        return options.model_copy(update={"optimizer": defaults.pop() if len(defaults) == 1 else None})


def _with_steps(options: JobOptions, packs: Sequence[PackInfo], code: Code | None) -> JobOptions:
    """With the numbers of steps that the packs have for what is not said; as the library does it (`course.py`)."""
    details = {pack.detail for pack in packs}
    if len(details) != 1:
        return options  # workers of different versions: the one that takes the job decides
    detail = details.pop() or _OLDER
    detail_steps = detail.steps if options.detail_steps is None else options.detail_steps
    steps = options.steps
    if steps is None:
        has_detail = code is not None and code.detail_CHW is not None
        steps = 0 if has_detail else detail.after if detail_steps else STEPS_WITHOUT_DETAIL
    return options.model_copy(update={"steps": steps, "detail_steps": detail_steps})


def _meant(options: JobOptions, packs: Sequence[PackInfo]) -> Sequence[PackInfo]:
    """The packs that live workers have announced and that this may run on."""
    if options.pack is None:
        return [pack for pack in packs if pack.default] or packs
    names = ", ".join(sorted({pack.name for pack in packs}))
    found = [pack for pack in packs if pack.name == options.pack]
    if not found:
        raise ProblemError("pack-not-found", f"`{options.pack[:100]}` is not among the packs: {names}.")
    return found


def _check_pack(options: JobOptions, packs: Sequence[PackInfo], code: Code | None) -> None:
    """Whether these packs can do this."""
    if options.optimizer is not None:
        _check_choice("optimizer", options.optimizer, sorted({name for pack in packs for name in pack.optimizers}))
    if options.start is not None and options.start is not StartKind.LATENTS:
        _check_choice("start", options.start.value, sorted({kind.value for pack in packs for kind in pack.starts}))
    if code is not None:
        _check_code(code, packs)


def _check_choice(field: str, chosen: str, offered: Sequence[str]) -> None:
    if chosen not in offered:
        raise ProblemError(
            "option-invalid",
            f"`{field}`: `{chosen[:100]}` is not offered by this pack. Offered: {', '.join(offered)}.",
        )


def _check_code(code: Code, packs: Sequence[PackInfo]) -> None:
    """A code of another pack would be a face, but not this one."""
    if code.pack is not None and code.pack not in {pack.name for pack in packs}:
        raise ProblemError("latents-invalid", f"It is of pack {code.pack[:100]!r}, not of {packs[0].name}.")
    digests = {pack.digest for pack in packs if pack.digest}
    if code.digest and digests and code.digest not in digests:
        raise ProblemError("latents-invalid", f"It is of other weights of pack {packs[0].name} than those at work.")
    if code.w_LD.shape not in {(pack.layers, pack.w_dim) for pack in packs}:
        wanted = (packs[0].layers, packs[0].w_dim)
        raise ProblemError("latents-invalid", f"Its shape is {code.w_LD.shape}, and pack {packs[0].name} has {wanted}.")


def _check_webhook(options: JobOptions, tenant: str, settings: AppSettings) -> None:
    """Whether a webhook would ever be called; its name is resolved when it is."""
    if options.webhook is None:
        return
    parts = urlsplit(options.webhook)
    if parts.scheme != "https" and not settings.webhook_allow_http:
        raise ProblemError("option-invalid", "`webhook`: the address must begin with https://.")
    if (parts.hostname or "") not in settings.webhook_allow_hosts and looks_local(parts.hostname or ""):
        raise ProblemError("option-invalid", "`webhook`: the address is not one of the public internet.")
    if not tenant and settings.webhook_secret is None:
        raise ProblemError("option-invalid", "`webhook`: this service has no INVERSION_WEBHOOK_SECRET to sign with.")
