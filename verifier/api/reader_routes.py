"""Routes for relying parties: results, history, decisions, AuthZEN evaluation."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse

from attestation.errors import MalformedInput
from attestation.limits import MAX_DEVICE_ID_CHARS
from attestation.result import TrustTier
from verifier.api.documents import device_document, history_document, moment, result_document
from verifier.api.routing import PROBLEMS, GuardedRoute
from verifier.api.schemas import (
    DecisionDocument,
    DeviceDocument,
    DevicePage,
    EvaluationRequest,
    EvaluationResponse,
    HistoryPage,
)
from verifier.decision.history import history as sum_up
from verifier.services.devices import unknown_device
from verifier.services.suite import Services

Limit = Annotated[int, Query(ge=1, le=500)]
After = Annotated[str, Query(max_length=MAX_DEVICE_ID_CHARS, pattern="^[a-z0-9-]*$")]
Before = Annotated[int, Query(ge=0, le=2**63 - 1)]


def reader_router(services: Services) -> APIRouter:
    """Return the routes that readers use."""
    router = APIRouter(route_class=GuardedRoute, responses=PROBLEMS)
    _results(router, services)
    _decisions(router, services)
    return router


def _results(router: APIRouter, services: Services) -> None:
    @router.get(
        "/results/v1/devices",
        response_model=DevicePage,
        tags=["results"],
        summary="Devices with their newest results, page by page",
    )
    def devices(after: After = "", limit: Limit = 100) -> JSONResponse:
        """List devices in order of id."""
        at = services.clock.now()
        page = services.devices.page(after=after, limit=limit)
        documents = [device_document(record, newest, at) for record, newest in page]
        last = page[-1][0].device if len(page) == limit else ""
        return JSONResponse({"devices": documents, "next": last})

    @router.get(
        "/results/v1/devices/{device_id}",
        response_model=DeviceDocument,
        tags=["results"],
        summary="One device and its newest result",
    )
    def device(device_id: str) -> JSONResponse:
        """Show one device."""
        record, newest = services.devices.show(device_id)
        return JSONResponse(device_document(record, newest, services.clock.now()))

    @router.get(
        "/results/v1/devices/{device_id}/history",
        response_model=HistoryPage,
        tags=["results"],
        summary="Results of one device, newest first",
    )
    def history(device_id: str, before: Before = 0, limit: Limit = 100) -> JSONResponse:
        """List the results of one device."""
        at = services.clock.now()
        found = services.devices.history(device_id, before=before, limit=limit)
        following = found[-1].seq if len(found) == limit else 0
        told = sum_up(found, at, complete=not found or found[-1].seq == 1) if not before else None
        return JSONResponse(
            {
                "device_id": device_id,
                "results": [result_document(result, at) for result in found],
                "summary": history_document(told) if told is not None else None,
                "next": following,
            }
        )


def _decisions(router: APIRouter, services: Services) -> None:
    @router.get(
        "/decisions/v1/devices/{device_id}",
        response_model=DecisionDocument,
        tags=["decisions"],
        summary="What the policy says about a device now",
    )
    def decision(device_id: str) -> JSONResponse:
        """Decide on one device, now, with the document that was judged."""
        answer, document, _ = services.decisions.now(device_id, services.clock.now())
        if not document:
            raise unknown_device(device_id)
        return JSONResponse(
            {
                "device_id": device_id,
                "allow": answer.allow,
                "decision": answer.word,
                "reasons": list(answer.reasons),
                "at": moment(answer.at),
                "document": document,
            }
        )

    @router.post(
        "/access/v1/evaluation",
        response_model=EvaluationResponse,
        tags=["decisions"],
        summary="OpenID AuthZEN 1.0 access evaluation",
    )
    def evaluation(asked: EvaluationRequest) -> JSONResponse:
        """Decide on a subject of type ``device``; whatever it says of itself is not believed."""
        return JSONResponse(_evaluate(services, asked))


def _evaluate(services: Services, asked: EvaluationRequest) -> dict[str, object]:
    if asked.subject.type != "device":
        return _denied(f"subjects of type {asked.subject.type[:40]!r} are not known here")
    try:
        answer, _, newest = services.decisions.now(asked.subject.id, services.clock.now())
    except MalformedInput as error:
        return _denied(error.reason)
    context: dict[str, object] = {"decided_at": moment(answer.at)}
    if answer.reasons:
        context["reason_admin"] = {"403": "; ".join(answer.reasons)}
    if newest is not None:
        context["attestation"] = {
            "status": TrustTier(newest.status).label,
            "vector": dict(newest.vector),
            "age_s": max(0, int((answer.at - newest.at).total_seconds())),
            "seq": newest.seq,
        }
    return {"decision": answer.allow, "context": context}


def _denied(reason: str) -> dict[str, object]:
    return {"decision": False, "context": {"reason_admin": {"403": reason}}}
