"""Whatever the order of arrival, with repeats: one and the same final state, and it is the oracle's."""

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.desk import client_of, serving_book
from tests.converging.arrivals import AT_ONCE, Action, arrival, as_oracle, history, send
from tests.converging.final_state import FinalState, assert_agrees, final_state
from tests.oracle import OracleInstrument, replay
from tests.support.postgres import TestServer

ACTIONS, REPEATS = 500, 100
MNQ = OracleInstrument(name="MNQ SEP25", multiplier="2", settle_currency="USD")
SEEDS = st.integers(0, 2**32)


async def state_after(server: TestServer, arrived: list[Action], *, at_once: int = AT_ONCE) -> FinalState:
    url = server.create_database()
    try:
        async with serving_book(url) as service, client_of(service.address) as client:
            await send(client, arrived, at_once=at_once)
            return await final_state(client)
    finally:
        server.drop_database(url)


async def converges(server: TestServer, seed: int) -> None:
    chance = random.Random(seed)
    chains = history(chance, ACTIONS)
    # The quickest: all fills first, then all that was corrected once, and so on.
    in_order = sorted((action for chain in chains for action in chain), key=lambda action: action.revision)
    first = await state_after(server, in_order, at_once=ACTIONS)
    assert len(first.positions) == 4
    fills, revisions = as_oracle(chains)
    assert_agrees(first, replay(fills, revisions=revisions, instruments={MNQ.name: MNQ}))
    another = await state_after(server, arrival(chance, chains, repeats=REPEATS))
    assert another == first


@settings(max_examples=2, deadline=None, derandomize=True, database=None)
@given(SEEDS)
async def test_any_order_of_fills_amendments_and_busts_comes_to_one_state(
    postgres_server: TestServer, seed: int
) -> None:
    await converges(postgres_server, seed)


@pytest.mark.long
@pytest.mark.timeout(1_800)
@settings(max_examples=25, deadline=None, database=None)
@given(SEEDS)
async def test_many_orders_of_fills_amendments_and_busts_come_to_one_state(
    postgres_server: TestServer, seed: int
) -> None:
    await converges(postgres_server, seed)
