"""The status page and the figures for Prometheus."""

from __future__ import annotations

import urllib.error
import urllib.request

import pytest
from node.conftest import associate, running, send
from prometheus_client.parser import text_string_to_metric_families

from medtranslate.node import State
from medtranslate.node.rules import Status
from medtranslate.node.status import StatusServer

OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def get(port: int, path: str) -> str:
    with OPENER.open(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


def test_page_and_figures_say_how_things_stand_and_not_who_the_patient_is(make_rules, ct_files):
    with running(make_rules()) as node:
        send(node.node.port, ct_files(1))
        node.wait_for(State.SENT)
        send(node.node.port, ct_files(2, PixelSpacing=None))
        [job] = node.wait_for(State.QUARANTINE)
        associate(node.node.port, calling="STRANGER")
        server = StatusServer(Status(port=0), node.node.spool, node.node.figures)
        page, figures = get(server.port, "/"), get(server.port, "/metrics")
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(server.port, "/etc")
        server.close()

    assert job.name in page and "PixelSpacing" in page
    assert "Test^Patient" not in page + figures and "P1" not in figures
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(figures)
        for sample in family.samples
    }
    prefix = "medtranslate_node_"
    expected = {
        ("series", "sent"): 1,
        ("series", "quarantine"): 1,
        ("series", "received"): 0,
        ("instances_total", "stored"): 10,
        ("associations_rejected_total",): 1,
        ("conversions_total", "converted"): 1,
        ("conversions_total", "refused"): 1,
        ("conversion_seconds_count",): 2,
        ("instances_delivered_total", "files"): 5,
        ("series_sent_total",): 1,
        ("series_quarantined_total",): 1,
    }
    assert {key: values[(prefix + key[0], *key[1:])] for key in expected} == expected
