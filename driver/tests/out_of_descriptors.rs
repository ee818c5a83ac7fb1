//! Accepting while the process has no descriptors left. A process of its own, since the limit is per process.

use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use driver::{ExecutorConfig, ListenOptions, Listener, blocking, run, spawn, timeout};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// The listener must neither spin nor give up: it waits, and takes the queued callers when descriptors are free.
#[test]
fn accept_waits_for_descriptors() {
    run(ExecutorConfig::new("t"), || async {
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listener = Listener::bind(any, ListenOptions::default()).unwrap();
        let addr = listener.local_addr();
        // Wakes the helper thread and opens what the runtime opens late, before descriptors run out.
        let first = blocking(move || TcpStream::connect(addr).unwrap()).await;
        drop(listener.accept().await);

        let client = TcpStream::connect(addr).unwrap();
        let used = std::fs::read_dir("/proc/self/fd").unwrap().count() as u64;
        let old = getrlimit(Resource::Nofile);
        let low = Rlimit {
            current: Some(used.saturating_sub(1)),
            maximum: old.maximum,
        };
        let hoard: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok())
            .take(usize::try_from(used).unwrap())
            .collect();
        setrlimit(Resource::Nofile, low).unwrap();
        assert!(
            std::fs::File::open("/dev/null").is_err(),
            "descriptors are left"
        );

        let mut accepting = spawn(async move { listener.accept().await });
        let cpu_before = cpu_time();
        let early = timeout(Duration::from_millis(300), &mut accepting).await;
        assert!(early.is_err(), "accepted without a descriptor");
        let cpu_used = cpu_time() - cpu_before;
        setrlimit(Resource::Nofile, old).unwrap();
        drop(hoard);
        let (stream, peer) = timeout(Duration::from_secs(20), accepting).await.unwrap();
        assert_eq!(peer, client.local_addr().unwrap());
        assert!(
            cpu_used < Duration::from_millis(150),
            "{cpu_used:?} of CPU while waiting"
        );
        drop((stream, first));
    })
    .unwrap();
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).expect("below 10^9"),
    )
}
