import pytest
from rows import PRIOR, Make, add_dataset, new_image

from shared import jobs
from shared.db import Sessions
from shared.spec import ExpansionSpec


@pytest.fixture
def make_job(sessions: Sessions) -> Make:
    """Makes a job of a dataset of its own. What was finished before is made again, unless `reuse` is given."""

    def make(images: int = 3, variants: int = 2, *, owner: str = "local", **spec: object) -> str:
        with sessions.write() as session:
            dataset_id = add_dataset(session, *(new_image(str(n)) for n in range(images)), owner=owner)
            asked = {"dataset_id": dataset_id, "variants": variants, "reuse": False, **spec}
            return jobs.create(session, owner, ExpansionSpec.model_validate(asked), PRIOR, 10_000).id

    return make
