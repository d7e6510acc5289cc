"""What each outcome of an attempt becomes, and in which order things are written: fakes, no server."""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from dataclasses import fields
from datetime import UTC, datetime
from threading import Event
from typing import Any

import numpy as np
import pytest
from fake_worker import LAYERS, WIDTH, FakeBackend, FakePrepared
from PIL import Image
from redis.exceptions import ConnectionError as RedisConnectionError

from inversion_worker.attempt import Context
from inversion_worker.backend import NO_EXTRAS, Extras, Prepared
from inversion_worker.code import Code
from inversion_worker.contract import (
    ArtifactKey,
    FrameReady,
    JobDone,
    JobEvent,
    JobOptions,
    JobRecord,
    JobStarted,
    JobStatus,
    StartKind,
    StopReason,
)
from inversion_worker.errors import LeaseLost, StorageFull
from inversion_worker.found import Found
from inversion_worker.frames import png
from inversion_worker.leases import LeaseKeeper
from inversion_worker.metrics import Metrics
from inversion_worker.runner import JobRunner
from inversion_worker.transitions import Asked, Lease

pytestmark = pytest.mark.unit

JOB = "job"
Hook = Callable[[], None]


class Memory:
    """Artifact store and job store in one, with one log of all that is written, in order."""

    def __init__(self, options: JobOptions, photo: bytes) -> None:
        self.record: JobRecord | None = JobRecord(
            id=JOB, status=JobStatus.QUEUED, options=options, created_at=datetime.now(UTC), expires_at=datetime.now(UTC)
        )
        self.files = {ArtifactKey.photo(JOB): photo}
        self.log: list[str | JobEvent] = []
        self.asked = Asked.NOTHING
        self.before_update: Hook = lambda: None
        self.before_write: Callable[[str], None] = lambda key: None

    # -- job store -----------------------------------------------------------------------------------------

    def claim_next(self) -> tuple[Lease, JobRecord] | None:
        if self.record is None or self.record.status is not JobStatus.QUEUED:
            return None
        self._set(status=JobStatus.RUNNING, attempts=self.record.attempts + 1, started_at=datetime.now(UTC))
        return Lease(JOB, 1), self.record

    def get(self, job_id: str) -> JobRecord | None:
        return self.record

    def update(self, lease: Lease, event: JobEvent | None = None, **fields: Any) -> Asked:
        self.before_update()
        self._set(**fields)
        if event is not None:
            self.log.append(event)
        return self.asked

    def finish(self, lease: Lease, status: JobStatus, event: JobEvent, **fields: Any) -> None:
        self.update(lease, event, status=status, **fields)

    def hand_back(self, lease: Lease) -> None:
        assert self.record is not None
        self.update(lease, None, status=JobStatus.QUEUED, attempts=self.record.attempts - 1)

    def answers(self) -> bool:
        return True

    def _set(self, **fields: Any) -> None:
        if self.record is None or self.record.status not in (JobStatus.QUEUED, JobStatus.RUNNING):
            raise LeaseLost(JOB)
        self.record = self.record.model_copy(update=fields)

    # -- artifact store ------------------------------------------------------------------------------------

    def write(self, key: str, data: bytes) -> None:
        self.before_write(key)
        self.files[key] = data
        self.log.append(key)

    def read(self, key: str) -> bytes | None:
        return self.files.get(key)

    def delete(self, key: str) -> None:
        self.files.pop(key, None)

    def delete_job(self, job_id: str) -> None:
        self.files.clear()


class House:
    """A runner on a Memory."""

    def __init__(self, options: JobOptions) -> None:
        self.stopping = Event()
        self.memory = Memory(options, noise())
        self.context()

    def context(self, **changes: Any) -> None:
        """Run with this Context from now on."""
        context = Context(
            store=self.memory,  # type: ignore[arg-type]
            artifacts=self.memory,  # type: ignore[arg-type]
            backend=changes.pop("backend", FakeBackend(step_s=0)),
            stopping=self.stopping,
            checkpoint_s=1e-9,  # one at every Step
            report_s=0,
            **changes,
        )
        self.runner = JobRunner(context, LeaseKeeper(self.memory, self.stopping))  # type: ignore[arg-type]

    def run(self) -> bool:
        return self.runner.run(JOB)

    @property
    def record(self) -> JobRecord:
        assert self.memory.record is not None
        return self.memory.record


def metrics(house: House) -> list[tuple[int, float]]:
    """Step and loss of each row."""
    rows = Metrics.from_bytes(house.memory.files[ArtifactKey.metrics(JOB)]).rows
    return [(step, loss) for step, loss, _ in rows]


def noise() -> bytes:
    buffer = io.BytesIO()
    pixels = np.random.default_rng(1).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


def pixels(picture: bytes) -> bytes:
    return Image.open(io.BytesIO(picture)).tobytes()


def at_step(memory: Memory, step: int, act: Hook) -> Hook:
    """Do `act` before every update from that Step on."""
    return lambda: act() if memory.record and (memory.record.step or 0) >= step else None


def test_everything_is_stored_before_it_is_said() -> None:
    house = House(JobOptions(steps=7, frame_every=3))
    assert house.run()
    log = house.memory.log
    assert isinstance(log[1], JobStarted)
    assert log[0] == log[1].aligned_key
    for index, event in enumerate(log):
        if isinstance(event, FrameReady):
            assert event.frame_key in log[:index]
    assert [event.step for event in log if isinstance(event, FrameReady)] == [0, 3, 6, 7]
    assert isinstance(log[-1], JobDone)
    assert log[-4:-1] == [ArtifactKey.latents(JOB), ArtifactKey.image(JOB), ArtifactKey.pasted(JOB)]
    assert ArtifactKey.checkpoint(JOB) in log
    assert ArtifactKey.checkpoint(JOB) not in house.memory.files


@pytest.mark.parametrize("steps", [0, 1])
def test_the_last_step_has_a_frame_and_only_one(steps: int) -> None:
    house = House(JobOptions(steps=steps, frame_every=1))
    assert house.run()
    assert house.record.frames == list(range(steps + 1))
    assert len([event for event in house.memory.log if isinstance(event, FrameReady)]) == steps + 1


def test_a_second_delivery_changes_nothing() -> None:
    house = House(JobOptions(steps=2))
    house.run()
    before = house.record, list(house.memory.log)
    assert house.run()
    assert (house.record, house.memory.log) == before


def test_a_stop_hands_back_with_a_fresh_checkpoint_and_the_result_is_the_same() -> None:
    options = JobOptions(steps=20, frame_every=4)
    whole, broken = House(options), House(options)
    whole.run()
    broken.memory.before_update = at_step(broken.memory, 9, broken.stopping.set)
    broken.memory.before_write = lambda key: time.sleep(0.01)  # so that writes are behind when it stops
    assert not broken.run()
    assert (broken.record.status, broken.record.attempts) == (JobStatus.QUEUED, 0)
    stopped_at = broken.record.step
    assert not broken.run()  # still stopping: nothing is even claimed
    assert broken.record.status is JobStatus.QUEUED

    broken.memory.before_update = lambda: None
    broken.stopping.clear()
    steps_done: list[int | None] = []
    broken.memory.before_update = lambda: steps_done.append(broken.record.step)
    assert broken.run()
    assert min(step for step in steps_done if step is not None) == stopped_at  # nothing is done again
    same = {"status", "step", "loss", "best_step", "best_loss", "frames"}
    assert broken.record.model_dump(include=same) == whole.record.model_dump(include=same)
    assert metrics(broken) == metrics(whole)
    for house in (whole, broken):
        del house.memory.files[ArtifactKey.metrics(JOB)]  # the times differ
    assert broken.memory.files == whole.memory.files
    frames = [event for event in broken.memory.log if isinstance(event, FrameReady)]
    assert frames == [event for event in whole.memory.log if isinstance(event, FrameReady)]


def test_the_best_step_before_a_break_is_not_forgotten() -> None:
    options = JobOptions(steps=20, optimizer="diverging")  # finite until step 3
    house = House(options)
    house.memory.before_update = at_step(house.memory, 10, house.stopping.set)
    house.run()
    house.memory.before_update = lambda: None
    house.stopping.clear()
    assert house.run()
    whole = House(options)
    whole.run()
    assert house.record.best_step == whole.record.best_step == 3
    for key in (ArtifactKey.latents(JOB), ArtifactKey.image(JOB)):
        assert house.memory.files[key] == whole.memory.files[key]


def test_a_damaged_checkpoint_starts_over() -> None:
    house = House(JobOptions(steps=3))
    house.memory.files[ArtifactKey.checkpoint(JOB)] = b"rubbish"
    house.memory.record = house.record.model_copy(update={"pack_name": "fake-32", "pack_version": "1.0.0"})
    assert house.run()
    assert house.record.status is JobStatus.SUCCEEDED


def test_a_checkpoint_of_another_pack_version_is_not_used() -> None:
    house = House(JobOptions(steps=9))
    house.memory.before_update = at_step(house.memory, 5, house.stopping.set)
    house.run()
    house.memory.record = house.record.model_copy(update={"pack_version": "0.9"})
    house.stopping.clear()
    seen: list[int | None] = []
    house.memory.before_update = lambda: seen.append(house.record.step)
    house.run()
    assert 0 in seen


def test_cancel_ends_within_a_step() -> None:
    house = House(JobOptions(steps=20))

    def ask() -> None:
        house.memory.asked = Asked.CANCEL

    house.memory.before_update = at_step(house.memory, 5, ask)
    assert house.run()
    assert house.record.status is JobStatus.CANCELED
    assert house.record.step is not None
    assert house.record.step <= 6
    assert ArtifactKey.checkpoint(JOB) not in house.memory.files
    found = Found.from_bytes(house.memory.files[ArtifactKey.best(JOB)])
    assert found.step == house.record.result_step == house.record.best_step == house.record.step
    whole = House(JobOptions(steps=found.step))
    whole.run()
    np.testing.assert_array_equal(found.code, np.load(io.BytesIO(whole.memory.files[ArtifactKey.latents(JOB)])))
    assert found.picture is not None
    assert pixels(found.picture) == pixels(whole.memory.files[ArtifactKey.image(JOB)])


def test_finish_ends_within_a_step_with_the_best_so_far() -> None:
    house = House(JobOptions(steps=20))

    def ask() -> None:
        house.memory.asked = Asked.FINISH

    house.memory.before_update = at_step(house.memory, 5, ask)
    assert house.run()
    assert (house.record.status, house.record.stopped_by) == (JobStatus.SUCCEEDED, StopReason.REQUEST)
    assert house.record.best_step is not None
    assert 5 <= house.record.best_step <= 6
    whole = House(JobOptions(steps=house.record.best_step))
    whole.run()
    for key in (ArtifactKey.latents(JOB), ArtifactKey.image(JOB), ArtifactKey.pasted(JOB)):
        assert house.memory.files[key] == whole.memory.files[key]
    assert ArtifactKey.best(JOB) not in house.memory.files


def test_one_that_is_to_finish_before_it_starts_ends_with_its_start_code() -> None:
    house = House(JobOptions(steps=20))
    house.memory.asked = Asked.FINISH
    assert house.run()
    assert (house.record.status, house.record.best_step) == (JobStatus.SUCCEEDED, 0)


def test_the_best_so_far_can_be_had_while_the_job_runs() -> None:
    house = House(JobOptions(steps=6))
    seen: list[tuple[int, int | None]] = []

    def look() -> None:
        if (data := house.memory.files.get(ArtifactKey.best(JOB))) is not None:
            seen.append((Found.from_bytes(data).step, house.record.result_step))

    house.memory.before_update = look
    house.context(best_s=0)
    assert house.run()
    assert seen
    assert all(step == said or said is None or step > said for step, said in seen)  # said once it is there


def test_what_was_found_before_it_broke_stays() -> None:
    house = House(JobOptions(optimizer="broken"))  # in the middle of step 3
    house.run()
    assert house.record.status is JobStatus.FAILED
    assert Found.from_bytes(house.memory.files[ArtifactKey.best(JOB)]).step == house.record.result_step == 2


def test_a_deleted_job_leaves_no_file() -> None:
    house = House(JobOptions(steps=20, frame_every=1))

    def delete() -> None:
        house.memory.record = None

    house.memory.before_update = at_step(house.memory, 5, delete)
    assert house.run()
    assert house.memory.record is None
    assert house.memory.files == {}


@pytest.mark.parametrize(
    ("options", "error", "slug"),
    [
        (JobOptions(pack="nowhere"), None, "pack-not-found"),
        (JobOptions(optimizer="broken"), None, "internal"),
        (JobOptions(steps=5), StorageFull(), "storage-full"),
        (JobOptions(steps=5), PermissionError("/secret/path"), "internal"),
    ],
)
def test_failures_become_problems(options: JobOptions, error: Exception | None, slug: str) -> None:
    house = House(options)

    def write(key: str) -> None:
        if error is not None and key == ArtifactKey.latents(JOB):
            raise error

    house.memory.before_write = write
    assert house.run()
    assert house.record.status is JobStatus.FAILED
    assert house.record.error is not None
    assert house.record.error.type == f"/problems/{slug}"
    assert "secret" not in house.record.model_dump_json()
    assert ArtifactKey.checkpoint(JOB) not in house.memory.files


@pytest.mark.parametrize(
    ("key", "result"),
    [
        (ArtifactKey.aligned(JOB), "aligned"),
        (ArtifactKey.frame(JOB, 5), "frames"),
        (ArtifactKey.metrics(JOB), "metrics"),
        (ArtifactKey.image(JOB), "image"),
        (ArtifactKey.pasted(JOB), "pasted"),
        (ArtifactKey.checkpoint(JOB), None),
        (ArtifactKey.best(JOB), None),
    ],
)
@pytest.mark.parametrize("error", [StorageFull(), PermissionError("/secret/path"), ValueError("Comment is too long")])
def test_no_other_file_costs_the_code(key: str, result: str | None, error: Exception) -> None:
    house = House(JobOptions(steps=6))
    house.context(best_s=0)

    def write(written: str) -> None:
        if written == key:
            raise error

    house.memory.before_write = write
    assert house.run()
    assert house.record.status is JobStatus.SUCCEEDED
    named = {missing.result for missing in house.record.missing}
    assert named == {result} - {None} | ({"pasted"} if result == "image" else set())
    assert ArtifactKey.latents(JOB) in house.memory.files
    assert key not in house.memory.files
    assert "secret" not in house.record.model_dump_json()
    assert house.record.pasted is (ArtifactKey.pasted(JOB) in house.memory.files)
    assert house.record.frames == [0, 6] if result == "frames" else [0, 5, 6]


class Unencodable(Image.Image):
    """A picture that no encoder takes, as one with a comment that is too long for its format."""

    def save(self, *_: object, **__: object) -> None:
        raise ValueError("Comment is too long")


def test_pictures_that_cannot_be_encoded_cost_nothing_else() -> None:
    class Backend(FakeBackend):
        def prepare(self, photo: bytes, options: JobOptions, extras: Extras = NO_EXTRAS) -> Prepared:
            prepared = super().prepare(photo, options, extras)
            return Pasting(**{field.name: getattr(prepared, field.name) for field in fields(FakePrepared)})

    class Pasting(FakePrepared):
        def pasted(self, image: Image.Image) -> Image.Image | None:
            return Unencodable()

    house = House(JobOptions(steps=2))
    house.context(backend=Backend(step_s=0))
    assert house.run()
    assert (house.record.status, house.record.pasted) == (JobStatus.SUCCEEDED, False)
    assert [missing.result for missing in house.record.missing] == ["pasted"]
    assert ArtifactKey.image(JOB) in house.memory.files


@pytest.mark.parametrize(
    ("options", "steps", "reason"),
    [
        (JobOptions(steps=4), 4, StopReason.STEPS),
        (JobOptions(steps=0, max_seconds=1e-9), 0, StopReason.STEPS),
        (JobOptions(steps=50, max_seconds=1e-9), 0, StopReason.MAX_SECONDS),
        (JobOptions(steps=50, target_loss=0.02), None, StopReason.TARGET_LOSS),
        (JobOptions(steps=8, optimizer="diverging"), 8, StopReason.STEPS),
    ],
)
def test_stop_rules(options: JobOptions, steps: int | None, reason: StopReason) -> None:
    house = House(options)
    assert house.run()
    assert (house.record.status, house.record.stopped_by) == (JobStatus.SUCCEEDED, reason)
    rows = metrics(house)
    assert [step for step, _ in rows] == list(range(len(rows)))
    assert rows[-1][0] == house.record.step == house.record.frames[-1] or options.optimizer == "diverging"
    if steps is not None:
        assert rows[-1][0] == steps
    else:
        assert rows[-1][1] <= 0.02 < rows[-2][1]
        assert house.record.best_step == rows[-1][0]


def test_detail_is_kept_beside_the_code_and_taken_as_a_start() -> None:
    house = House(JobOptions(steps=2, detail_steps=3, align=False))
    house.run()
    assert (house.record.steps, house.record.step) == (5, 5)
    whole = Code.from_bytes(house.memory.files[ArtifactKey.latent(JOB)])
    assert whole.detail_CHW is not None
    assert (whole.detail_CHW == house.record.best_step).all()
    np.testing.assert_array_equal(whole.w_LD, np.load(io.BytesIO(house.memory.files[ArtifactKey.latents(JOB)])))
    plain = House(JobOptions(steps=2, align=False))
    plain.run()
    assert plain.record.steps == 2
    assert ArtifactKey.latent(JOB) not in plain.memory.files
    again = House(JobOptions(steps=0, align=False, start=StartKind.LATENTS))
    again.memory.files |= {
        ArtifactKey.start(JOB): Code(w_LD=np.zeros_like(whole.w_LD)).npy(),
        ArtifactKey.start_latent(JOB): whole.to_bytes(),
    }
    again.run()
    np.testing.assert_array_equal(
        whole.w_LD, np.load(io.BytesIO(again.memory.files[ArtifactKey.latents(JOB)])), "the whole one counts"
    )


def test_a_code_and_a_mask_that_came_along_are_used() -> None:
    plain, extra = House(JobOptions(steps=0)), House(JobOptions(steps=0, start=StartKind.LATENTS))
    code = np.full((LAYERS, WIDTH), 0.25, np.float32)
    mask = Image.new("L", (64, 64), 0)
    extra.memory.files |= {ArtifactKey.start(JOB): Code(w_LD=code).npy(), ArtifactKey.mask(JOB): png(mask)}
    extra.memory.record = extra.record.model_copy(update={"masked": True})
    for house in (plain, extra):
        assert house.run()
    result = np.load(io.BytesIO(extra.memory.files[ArtifactKey.latents(JOB)]))
    np.testing.assert_array_equal(result, code)
    assert extra.record.best_loss == pytest.approx(0.0625)  # the target is black under a black mask
    assert plain.record.best_loss != pytest.approx(0.0625)


@pytest.mark.parametrize("missing", [ArtifactKey.start(JOB), ArtifactKey.mask(JOB)])
def test_what_came_along_and_is_gone_fails_the_job(missing: str) -> None:
    house = House(JobOptions(steps=0, start=StartKind.LATENTS))
    code = np.zeros((LAYERS, WIDTH), np.float32)
    house.memory.files |= {
        ArtifactKey.start(JOB): Code(w_LD=code).npy(),
        ArtifactKey.mask(JOB): png(Image.new("L", (64, 64))),
    }
    del house.memory.files[missing]
    house.memory.record = house.record.model_copy(update={"masked": True})
    assert house.run()
    assert house.record.error is not None
    assert house.record.error.type == "/problems/photo-missing"


@pytest.mark.parametrize(
    ("options", "there"),
    [(JobOptions(steps=0), True), (JobOptions(steps=0, paste=False), False), (JobOptions(steps=0, align=False), False)],
)
def test_the_face_is_pasted_back_where_it_is_asked_for_and_there_is_one(options: JobOptions, there: bool) -> None:
    house = House(options)
    assert house.run()
    assert house.record.pasted is there
    assert (ArtifactKey.pasted(JOB) in house.memory.files) is there


def test_a_missing_photo_is_named() -> None:
    house = House(JobOptions())
    house.memory.files.clear()
    house.run()
    assert house.record.error is not None
    assert house.record.error.type == "/problems/photo-missing"


def test_without_redis_the_job_is_left_as_it_is() -> None:
    house = House(JobOptions(steps=20))

    def vanish() -> None:
        raise RedisConnectionError

    house.memory.before_update = at_step(house.memory, 5, vanish)
    assert house.run()
    assert house.record.status is JobStatus.RUNNING
    assert ArtifactKey.checkpoint(JOB) in house.memory.files
