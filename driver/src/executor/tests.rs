//! Tests of tasks and turns.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::*;
use crate::{mailbox, now, sleep, timeout};

#[test]
fn tasks_end_detach_and_are_cancelled() {
    let ran = Rc::new(Cell::new(0));
    let sum = run(ExecutorConfig::new("t"), || {
        let ran = ran.clone();
        async move {
            let inner = ran.clone();
            let joined = spawn(async move {
                yield_now().await;
                inner.set(inner.get() + 1);
                20
            });
            let inner = ran.clone();
            spawn(async move { inner.set(inner.get() + 10) }).detach();
            let inner = ran.clone();
            drop(spawn(async move {
                sleep(Duration::from_millis(5)).await;
                inner.set(1000);
            }));
            let result = joined.await;
            sleep(Duration::from_millis(20)).await;
            result + 1
        }
    })
    .unwrap();
    assert_eq!(sum, 21);
    assert_eq!(ran.get(), 11);
}

#[test]
fn a_cancelled_future_is_dropped_at_once_and_a_finished_one_keeps_its_result() {
    run(ExecutorConfig::new("t"), || async {
        let held = Rc::new(());
        let inner = held.clone();
        let task = spawn(async move {
            sleep(Duration::from_secs(3600)).await;
            drop(inner);
        });
        yield_now().await;
        assert_eq!(Rc::strong_count(&held), 2);
        assert!(task.cancel().is_none());
        assert_eq!(Rc::strong_count(&held), 1);

        let task = spawn(async { 5 });
        while !task.is_finished() {
            yield_now().await;
        }
        assert_eq!(task.cancel(), Some(5));
    })
    .unwrap();
}

#[test]
fn a_task_may_cancel_itself_and_its_slot_is_used_again() {
    run(ExecutorConfig::new("t"), || async {
        let own = Rc::new(Cell::new(None::<Task<()>>));
        let held = own.clone();
        let ended = Rc::new(Cell::new(false));
        let inner = ended.clone();
        own.set(Some(spawn(async move {
            drop(held.take());
            yield_now().await;
            inner.set(true);
        })));
        for n in 0..10 {
            yield_now().await;
            assert_eq!(spawn(async move { n }).await, n);
        }
        assert!(!ended.get());
    })
    .unwrap();
}

#[test]
fn tasks_left_over_are_dropped_at_the_end() {
    let held = Rc::new(());
    run(ExecutorConfig::new("t"), || {
        let held = held.clone();
        async move {
            spawn(async move {
                sleep(Duration::from_secs(3600)).await;
                drop(held);
            })
            .detach();
            yield_now().await;
        }
    })
    .unwrap();
    assert_eq!(Rc::strong_count(&held), 1);
}

#[test]
fn a_busy_task_learns_that_its_turn_is_over() {
    run(ExecutorConfig::new("t"), || async {
        yield_now().await;
        let start = now();
        while !need_yield() {
            assert!(
                now() - start < Duration::from_secs(5),
                "never asked to yield"
            );
        }
    })
    .unwrap();
}

#[test]
fn timers_fire_while_tasks_that_yield_keep_the_executor_busy() {
    run(ExecutorConfig::new("t"), || async {
        let busy: Vec<_> = (0..4)
            .map(|_| {
                spawn(async {
                    loop {
                        let start = now();
                        while now() - start < Duration::from_micros(20) {}
                        yield_now().await;
                    }
                })
            })
            .collect();
        let start = now();
        for _ in 0..100 {
            sleep(Duration::from_millis(1)).await;
        }
        // Ten times the due time: far from the seconds that a starved timer would take.
        let took = now() - start;
        assert!(took < Duration::from_secs(1), "{took:?}");
        drop(busy);
    })
    .unwrap();
}

#[test]
fn wake_ups_from_threads_are_never_lost() {
    run(ExecutorConfig::new("t"), || async {
        let (to_thread, orders) = std::sync::mpsc::channel();
        let (replies, mut mailbox) = mailbox(4);
        let thread = std::thread::spawn(move || {
            for order in orders {
                replies.send(order).unwrap();
            }
        });
        for round in 0..20_000u32 {
            to_thread.send(round).unwrap();
            if round % 7 == 0 {
                yield_now().await;
            }
            let reply = timeout(Duration::from_secs(20), mailbox.recv())
                .await
                .unwrap();
            assert_eq!(reply, Some(round));
        }
        drop(to_thread);
        thread.join().unwrap();
    })
    .unwrap();
}

#[test]
fn a_panic_of_a_task_leaves_the_thread_usable() {
    let caught = std::panic::catch_unwind(|| {
        run(ExecutorConfig::new("t"), || async {
            spawn(async { panic!("on purpose") }).await
        })
    });
    assert!(caught.is_err());
    assert_eq!(run(ExecutorConfig::new("t"), || async { 4 }).unwrap(), 4);
}

#[test]
fn a_core_that_does_not_exist_is_an_error() {
    let mut config = ExecutorConfig::new("t");
    config.core = Some(100_000);
    let error = run(config, || async {}).unwrap_err();
    assert!(matches!(error, DriverError::Start { .. }), "{error}");
}

#[test]
fn a_pinned_executor_runs_and_its_helpers_are_free() {
    std::thread::spawn(|| {
        let before = rustix::thread::sched_getaffinity(None).unwrap().count();
        let mut config = ExecutorConfig::new("pinned");
        config.core = Some(0);
        let count = || rustix::thread::sched_getaffinity(None).unwrap().count();
        let counts = run(config, || async { (count(), crate::blocking(count).await) }).unwrap();
        assert_eq!(counts, (1, before));
    })
    .join()
    .unwrap();
}

#[test]
fn what_is_expected_comes_whoever_it_comes_from() {
    run(ExecutorConfig::new("t"), || async {
        let (sender, mut mailbox) = mailbox(1);
        let (echo, requests) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            for number in requests.iter() {
                // Now and then later than any watch.
                if number % 50 == 0 {
                    std::thread::sleep(Duration::from_millis(1));
                }
                sender.send(number).unwrap();
            }
        });
        for number in 0..500 {
            echo.send(number).unwrap();
            expect_soon();
            let got = timeout(Duration::from_secs(20), mailbox.recv()).await;
            assert_eq!(got.unwrap(), Some(number));
        }
        drop(echo);
        thread.join().unwrap();
        // A timer is not missed over it, and nothing at all may come.
        for micros in [0, 20, 100, 300] {
            let (start, time) = (now(), Duration::from_micros(micros));
            expect_soon();
            sleep(time).await;
            assert!(now() - start >= time);
        }
    })
    .unwrap();
}

/// A turn's time is the thread's, whether a task works or waits.
#[test]
fn turns_are_observed_with_the_cpu_time_they_take() {
    const WORK: Duration = Duration::from_millis(5);
    let longest = run(ExecutorConfig::new("t"), || async {
        let longest = Rc::new(Cell::new(Duration::ZERO));
        let told = longest.clone();
        observe_turns(move |turn| told.set(told.get().max(turn)));
        sleep(Duration::from_millis(30)).await;
        let slept = longest.get();
        let start = crate::thread_cpu_time();
        while crate::thread_cpu_time() - start < WORK {}
        yield_now().await;
        sleep(Duration::from_millis(1)).await;
        (slept, longest.get())
    });
    let (slept, worked) = longest.unwrap();
    assert!(slept < WORK && worked >= WORK, "{slept:?} {worked:?}");
}
