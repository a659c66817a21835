"""What records that are stored as JSON share."""

from pydantic import BaseModel, ConfigDict


class Record(BaseModel):
    """A stored record: unknown keys are rejected, and it is never changed once it is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)
