"""The images of a request: read in memory only, within limits."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from biopsy.core.text import as_text

FIELDS = 8  # without a file, which are not read


@dataclass(frozen=True)
class Limits:
    """What one client may ask; pixels are limited by the model's card.

    Attributes
    ----------
    request_bytes, images
        Of one request.
    explained
        Images of one request for explanations, each of which costs as much as some 140 predictions.
    waiting, waiting_bytes
        Requests, and bytes, that are held at once, those that are predicted included; the next is told to come again.
    seconds
        In which a request must have arrived.
    """

    request_bytes: int = 64 * 2**20
    images: int = 64
    explained: int = 4
    waiting: int = 64
    waiting_bytes: int = 256 * 2**20
    seconds: float = 60


def form_schema(most: int) -> dict[str, Any]:
    """Describe, for OpenAPI, the form that `read_images` reads, of at most `most` images."""
    file = {"type": "string", "format": "binary"}
    images = {"type": "array", "items": file, "minItems": 1, "maxItems": most}
    form = {"type": "object", "required": ["images"], "properties": {"images": images}, "maxProperties": 1 + FIELDS}
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": form}}}}


async def read_images(request: Request, limits: Limits) -> list[tuple[str, bytes]]:
    """Read names and bytes of a form's files, in memory only and within the limits."""
    if not request.headers.get("content-type", "").lower().startswith("multipart/form-data"):
        raise HTTPException(400, "Send a form (multipart/form-data) with files called images.")
    body = bytearray()

    async def again() -> AsyncIterator[bytes]:
        yield bytes(body)

    try:
        async with asyncio.timeout(limits.seconds):
            async for chunk in request.stream():
                body.extend(chunk)
                if len(body) > limits.request_bytes:
                    raise HTTPException(
                        413, f"A request may hold {limits.request_bytes:,} bytes. Send fewer images at once."
                    )
        parser = MultiPartParser(request.headers, again(), max_files=limits.images, max_fields=FIELDS)  # type: ignore[arg-type]
        parser.spool_max_size = len(body) + 1  # never a file on disk
        form = await parser.parse()
    except TimeoutError:
        raise HTTPException(408, "The request did not arrive in time.") from None
    except (MultiPartException, ClientDisconnect, KeyError, ValueError) as error:
        text = getattr(error, "message", "The form cannot be read.")
        if "Too many files" in text:
            raise HTTPException(413, f"A request may hold {limits.images} images. Send fewer at once.") from None
        raise HTTPException(400, text) from None
    found = [f for _, f in form.multi_items() if isinstance(f, UploadFile)]
    if not found:
        raise HTTPException(400, "The form has no file. Send images in form fields called images.")
    return [(as_text(f.filename or ""), f.file.read()) for f in found]  # a client chooses the charset of its names
