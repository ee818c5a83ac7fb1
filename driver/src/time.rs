//! The monotonic clock and timers.

use std::future::Future;
use std::pin::{Pin, pin};
use std::sync::OnceLock;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use crate::executor::{TimerKey, add_timer, remove_timer};

/// Time since the process first asked, the same on every thread. Never goes back.
pub fn now() -> Duration {
    static ORIGIN: OnceLock<Instant> = OnceLock::new();
    ORIGIN.get_or_init(Instant::now).elapsed()
}

/// Ends after `duration`. Dropping the future takes the timer away.
pub fn sleep(duration: Duration) -> Sleep {
    Sleep {
        duration,
        state: SleepState::New,
    }
}

/// The future of [`sleep`]. The time runs from its first poll.
#[derive(Debug)]
pub struct Sleep {
    duration: Duration,
    state: SleepState,
}

#[derive(Debug)]
enum SleepState {
    New,
    Waiting { timer: TimerKey, waker: Waker },
    Over,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let until = match &self.state {
            SleepState::New => now().saturating_add(self.duration),
            SleepState::Waiting { timer, .. } if timer.0 <= now() => {
                remove_timer(*timer);
                self.state = SleepState::Over;
                return Poll::Ready(());
            }
            SleepState::Waiting { waker, .. } if waker.will_wake(cx.waker()) => {
                return Poll::Pending;
            }
            SleepState::Waiting { timer, .. } => {
                remove_timer(*timer);
                timer.0
            }
            SleepState::Over => return Poll::Ready(()),
        };
        self.state = SleepState::Waiting {
            timer: add_timer(until, cx.waker().clone()),
            waker: cx.waker().clone(),
        };
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let SleepState::Waiting { timer, .. } = self.state {
            remove_timer(timer);
        }
    }
}

/// The time given to [`timeout`] has passed first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("time is up")]
pub struct Elapsed;

/// Runs `future` for at most `duration`, then drops it.
///
/// # Errors
/// [`Elapsed`] if the time was over first; a future that is ready at once always wins.
pub async fn timeout<T>(duration: Duration, future: impl Future<Output = T>) -> Result<T, Elapsed> {
    let mut future = pin!(future);
    let mut sleep = pin!(sleep(duration));
    std::future::poll_fn(move |cx| {
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(Ok(value));
        }
        sleep.as_mut().poll(cx).map(|()| Err(Elapsed))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{ExecutorConfig, run};

    #[test]
    fn sleep_lasts_as_long_as_asked() {
        let slept = run(ExecutorConfig::new("t"), || async {
            let start = now();
            sleep(Duration::from_millis(20)).await;
            now() - start
        })
        .unwrap();
        assert!(slept >= Duration::from_millis(20), "{slept:?}");
    }

    #[test]
    fn a_dropped_sleep_is_gone_and_timeout_picks_the_first() {
        run(ExecutorConfig::new("t"), || async {
            let long = sleep(Duration::from_secs(3600));
            let short = timeout(Duration::from_millis(5), long).await;
            assert_eq!(short, Err(Elapsed));
            let quick = timeout(Duration::from_secs(3600), async { 3 }).await;
            assert_eq!(quick, Ok(3));
            // One that is too long for the clock neither panics nor fires.
            assert_eq!(
                timeout(Duration::from_millis(5), sleep(Duration::MAX)).await,
                Err(Elapsed)
            );
        })
        .unwrap();
    }
}
