"""Which response topics a query may name."""

from __future__ import annotations

import pytest

from verifier.feeds.topics import Query, Topics

TOPICS = Topics("att/v1")
QUERY = Query(requester="dashboard", device="sn-0001")


def test_request_topic_names_requester_and_device() -> None:
    assert TOPICS.parse_request("att/v1/query/dashboard/sn-0001/req") == QUERY


@pytest.mark.parametrize(
    "topic",
    [
        "att/v1/query/dashboard/sn-0001/res",
        "att/v1/query/dash/board/sn-0001/req",
        "att/v1/query//sn-0001/req",
        "att/v1/query/dashboard/SN-0001/req",
        "att/v1/query/dashboard/+/req",
        "other/att/v1/query/dashboard/sn-0001/req",
        "att/v1/query/dashboard/sn-0001/req\n",
    ],
)
def test_other_topics_are_not_requests(topic: str) -> None:
    assert TOPICS.parse_request(topic) is None


def test_requesters_own_response_topic_is_answered() -> None:
    assert TOPICS.may_answer(QUERY, "att/v1/query/dashboard/res/1")


@pytest.mark.parametrize(
    "response_topic",
    [
        "att/v1/query/other/res/1",
        "att/v1/sn-0002/cmd/reboot",
        "att/v1/sn-0001/result",
        "att/v1/query/dashboard/res/1/2",
        "att/v1/query/dashboard/res/",
        "att/v1/query/dashboard/res/#",
        "att/v1/query/dashboard/../other/res/1",
        "att/v1/query/dashboard/res/1\n",
    ],
)
def test_response_topic_of_another_is_not_answered(response_topic: str) -> None:
    assert not TOPICS.may_answer(QUERY, response_topic)
