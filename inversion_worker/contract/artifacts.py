"""Where the bytes of a job lie."""

from __future__ import annotations


class ArtifactKey:
    """Keys in the artifact store. All of a job's lie under its id, so deleting the prefix deletes everything."""

    @staticmethod
    def prefix(job_id: str) -> str:
        return f"{job_id}/"

    @staticmethod
    def photo(job_id: str) -> str:
        return f"{job_id}/photo"

    @staticmethod
    def face(job_id: str) -> str:
        """Of a diffusion: the photo of the face; the job's own photo is the context."""
        return f"{job_id}/face"

    @staticmethod
    def mask(job_id: str) -> str:
        """As large as the upright photo, 8-bit grey: white where the pictures must agree."""
        return f"{job_id}/mask.png"

    @staticmethod
    def start(job_id: str) -> str:
        """The code to start from, float32, (L, D)."""
        return f"{job_id}/start.npy"

    @staticmethod
    def start_latent(job_id: str) -> str:
        """The same with its detail, `inversion_worker.code.Code`; only where it has some."""
        return f"{job_id}/start.safetensors"

    @staticmethod
    def metrics(job_id: str) -> str:
        """`worker.metrics.Metrics` of every step so far."""
        return f"{job_id}/metrics.npy"

    @staticmethod
    def pasted(job_id: str) -> str:
        """The upright photo with the reconstruction in it."""
        return f"{job_id}/pasted.jpg"

    @staticmethod
    def aligned(job_id: str) -> str:
        return f"{job_id}/aligned.png"

    @staticmethod
    def frame(job_id: str, step: int) -> str:
        return f"{job_id}/frames/{step:06d}.webp"

    @staticmethod
    def image(job_id: str) -> str:
        return f"{job_id}/image.png"

    @staticmethod
    def latents(job_id: str) -> str:
        """The W+ code, float32, (L, D)."""
        return f"{job_id}/latents.npy"

    @staticmethod
    def latent(job_id: str) -> str:
        """The same with its detail, `inversion_worker.code.Code`; only where it has some."""
        return f"{job_id}/latents.safetensors"

    @staticmethod
    def best(job_id: str) -> str:
        """`inversion_worker.found.Found`: the best code so far with its picture; after a success the two above stay."""
        return f"{job_id}/best.safetensors"

    @staticmethod
    def checkpoint(job_id: str) -> str:
        return f"{job_id}/checkpoint.safetensors"

    @staticmethod
    def direction(direction_id: str) -> str:
        """What a strength of 1 of a tenant's own direction adds to a code, float32, (L, D)."""
        return f"{direction_id}/direction.npy"

    @staticmethod
    def reply(question_id: str) -> str:
        """The bytes of a reply that has many; they are there until it is read."""
        return f"{question_id}/reply"

    @staticmethod
    def question(question_id: str) -> str:
        """The bytes of a short question that has many; they are there until it is answered."""
        return f"{question_id}/question"
