//! The retry ladder of a next hop that cannot be reached (exchange-edge.md 2.5).

use std::time::Duration;

use crate::config::Transport;

/// How long a queue waits after its `failures`-th failed connection in a row (from 1): quick
/// glitch retries first, then transient-failure retries, then the long interval for good.
pub fn retry_delay(transport: &Transport, failures: u32) -> Duration {
    let glitches = transport.queue_glitch_retry_count;
    if failures <= glitches {
        transport.queue_glitch_retry_interval
    } else if failures - glitches <= transport.transient_failure_retry_count {
        transport.transient_failure_retry_interval
    } else {
        transport.outbound_connection_failure_retry_interval
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Exchange Edge's defaults.
    pub(crate) fn transport() -> Transport {
        let minutes = |n: u64| Duration::from_secs(n * 60);
        Transport {
            queue_glitch_retry_count: 4,
            queue_glitch_retry_interval: minutes(1),
            transient_failure_retry_count: 6,
            transient_failure_retry_interval: minutes(10),
            outbound_connection_failure_retry_interval: minutes(30),
            message_expiration_timeout: minutes(2 * 24 * 60),
            delay_notification_timeout: minutes(4 * 60),
            message_retry_interval: minutes(5),
            max_outbound_connections: 1000,
            max_message_size: 36 << 20,
            poison_threshold: 2,
        }
    }

    #[test]
    fn the_ladder_of_a_dead_next_hop() {
        let t = transport();
        let delays: Vec<u64> = (1..=13).map(|n| retry_delay(&t, n).as_secs() / 60).collect();
        assert_eq!(delays, [1, 1, 1, 1, 10, 10, 10, 10, 10, 10, 30, 30, 30]);
    }

    #[test]
    fn counts_of_zero_go_straight_to_the_long_interval() {
        let t = Transport { queue_glitch_retry_count: 0, transient_failure_retry_count: 0, ..transport() };
        assert_eq!(retry_delay(&t, 1), t.outbound_connection_failure_retry_interval);
    }
}
