"""Messages are forgotten after a while, in bounded batches; a late repeat of one is still no second fill."""

from steelyard.storage.build_sweep import PostgresSweep
from steelyard.storage.inbox import FORGOTTEN_AT_ONCE
from tests.events.feeds import Feeds, key, shown
from tests.events.worked import BTC, EXECUTIONS, ORDERS, XRP, execution, order_state

OLD = """
INSERT INTO inbox (account, source, event_id, content_hash, received_at)
SELECT 'main', 'elsewhere', n::text, '\\x00', now() - make_interval(days => $2) FROM generate_series(1, $1) n
"""


async def test_old_messages_are_forgotten_a_batch_at_a_time_and_young_ones_stay(feeds: Feeds) -> None:
    sweep = PostgresSweep(feeds.database, inbox_kept_days=14)
    await feeds.rows("INSERT INTO accounts (account) VALUES ('main')")
    await feeds.rows(OLD, FORGOTTEN_AT_ONCE + 5, 15)
    await feeds.rows("INSERT INTO inbox VALUES ('main', 'here', 'young', '\\x00', now() - interval '13 days')")
    assert await sweep.tidy()
    assert len(await feeds.rows("SELECT FROM inbox")) == 6
    assert not await sweep.tidy()
    assert [row["event_id"] for row in await feeds.rows("SELECT event_id FROM inbox")] == ["young"]


async def test_a_repeat_of_a_forgotten_message_is_applied_no_second_time(feeds: Feeds) -> None:
    messages = {
        EXECUTIONS: execution("10:00:00", "BUY", "2", "100", "1", "a"),
        ORDERS: order_state("10:00:00", "filled", "1.5", "2", "0.1"),
    }
    for queue, body in messages.items():
        assert await feeds.send(queue, body) == ["APPLIED"]
    await feeds.rows("UPDATE inbox SET received_at = now() - interval '15 days'")
    await PostgresSweep(feeds.database, inbox_kept_days=14).tidy()
    assert await feeds.rows("SELECT FROM inbox") == []
    for queue, body in messages.items():
        assert await feeds.send(queue, body) in (["REPEATED"], ["UNCHANGED"])
    assert [shown(await feeds.position(key(name)))[0::4] for name in (BTC, XRP)] == [("2", 1), ("-1.5", 1)]
