//! From a seed to a verdict; a failing plan is shrunk until nothing can be left out.

use std::cell::{Cell, RefCell};
use std::fmt::Write as _;
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;

use crate::check::Violation;
use crate::plan::{MILLISECOND, Plan, Plant, SECOND, Time};
use crate::world::{Summary, World};

/// Runs that shrinking may take.
const SHRINK_RUN_COUNT_MAX: usize = 300;

/// A run that broke a promise.
#[derive(Clone, Debug)]
pub struct Failure {
    pub plan: Plan,
    pub violation: Violation,
    /// Virtual time at which it showed.
    pub at: Time,
}

thread_local! {
    static IS_RUNNING: Cell<bool> = const { Cell::new(false) };
    static PANIC_TEXT: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs a plan. A panic of the code under test is a violation like any other.
///
/// # Errors
/// What was broken.
pub fn run(plan: &Plan) -> Result<Summary, Box<Failure>> {
    catch_panics();
    let mut world = World::new(plan.clone());
    IS_RUNNING.set(true);
    let ended = panic::catch_unwind(AssertUnwindSafe(|| world.run()));
    IS_RUNNING.set(false);
    let outcome =
        ended.unwrap_or_else(|_| Err(format!("panic: {}", PANIC_TEXT.with_borrow(Clone::clone))));
    outcome.map_err(|violation| {
        Box::new(Failure {
            plan: plan.clone(),
            violation,
            at: world.now(),
        })
    })
}

/// Keeps the text of a panic inside a run for the report; others are shown as ever.
fn catch_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = panic::take_hook();
        panic::set_hook(Box::new(move |info| match IS_RUNNING.get() {
            true => PANIC_TEXT.set(info.to_string().replace('\n', " ")),
            false => usual(info),
        }));
    });
}

/// The smallest plan found that fails in the same way.
pub fn shrink(failure: &Failure) -> Failure {
    shrink_within(failure, SHRINK_RUN_COUNT_MAX)
}

/// The same with so many runs at most.
pub fn shrink_within(failure: &Failure, run_count_max: usize) -> Failure {
    let mut shrinker = Shrinker {
        best: failure.clone(),
        runs_left: run_count_max,
    };
    while shrinker.pass() {}
    shrinker.best
}

struct Shrinker {
    best: Failure,
    runs_left: usize,
}

impl Shrinker {
    /// Tries every way once; true if one helped.
    fn pass(&mut self) -> bool {
        let mut has_helped = self.try_until();
        let mut chunk = self.best.plan.faults.len().next_power_of_two();
        while chunk > 0 {
            let mut from = 0;
            while from < self.best.plan.faults.len() {
                let mut plan = self.best.plan.clone();
                let to = plan.faults.len().min(from + chunk);
                plan.faults.drain(from..to);
                match self.attempt(plan) {
                    true => has_helped = true,
                    false => from += chunk,
                }
            }
            chunk /= 2;
        }
        has_helped |= self.try_fewer(|plan| &mut plan.client_count, 1);
        has_helped |= self.try_fewer(|plan| &mut plan.watcher_count, 0);
        has_helped |= self.try_fewer(|plan| &mut plan.reader_count, 0);
        has_helped
    }

    /// Leaves out one after the other of those who are counted so, down to `least`.
    fn try_fewer(&mut self, count: fn(&mut Plan) -> &mut usize, least: usize) -> bool {
        let mut has_helped = false;
        loop {
            let mut plan = self.best.plan.clone();
            if *count(&mut plan) <= least {
                return has_helped;
            }
            *count(&mut plan) -= 1;
            if !self.attempt(plan) {
                return has_helped;
            }
            has_helped = true;
        }
    }

    /// Ends the run soon after the violation, or still earlier.
    fn try_until(&mut self) -> bool {
        let mut has_helped = false;
        for until in [
            self.best.at + MILLISECOND,
            self.best.plan.until / 2,
            self.best.plan.until * 3 / 4,
            self.best.plan.until.saturating_sub(SECOND / 2),
        ] {
            if until < self.best.plan.until {
                let mut plan = self.best.plan.clone();
                plan.until = until;
                plan.faults.retain(|fault| fault.at < until);
                has_helped |= self.attempt(plan);
            }
        }
        has_helped
    }

    fn attempt(&mut self, plan: Plan) -> bool {
        if self.runs_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        match run(&plan) {
            Err(failure) if kind(&failure.violation) == kind(&self.best.violation) => {
                self.best = *failure;
                true
            }
            _ => false,
        }
    }
}

/// The first word of a violation: which promise it is about.
fn kind(violation: &str) -> &str {
    violation.split(':').next().unwrap_or_default()
}

/// What a person needs to see the failure again.
pub fn report(failure: &Failure) -> String {
    let Failure {
        plan,
        violation,
        at,
    } = failure;
    let mut text = String::new();
    let ms = at / MILLISECOND;
    // Writing to a String cannot fail.
    let _ = writeln!(text, "seed {} broke at {ms} ms: {violation}", plan.seed);
    let (clients, readers) = (plan.client_count, plan.reader_count);
    let watchers = plan.watcher_count;
    let _ = writeln!(
        text,
        "  {clients} clients, {watchers} that watch, {readers} readers of each member, faults:"
    );
    for fault in &plan.faults {
        let ms = fault.at / MILLISECOND;
        let _ = writeln!(text, "    #{} at {ms} ms: {:?}", fault.no, fault.kind);
    }
    let _ = writeln!(text, "  replay: {}", replay_command(plan));
    text
}

fn replay_command(plan: &Plan) -> String {
    let faults: Vec<String> = plan.faults.iter().map(|f| f.no.to_string()).collect();
    let plant = plan
        .plant
        .map_or(String::new(), |plant| format!(" --plant {}", plant.name()));
    format!(
        "sim --seed {} --nodes {}{plant} --until-us {} --clients {} --readers {} --watchers {} --faults {}",
        plan.seed,
        plan.node_count,
        plan.until,
        plan.client_count,
        plan.reader_count,
        plan.watcher_count,
        if faults.is_empty() {
            "none".to_owned()
        } else {
            faults.join(",")
        }
    )
}

/// The first seed of a range that fails.
pub fn first_failure(
    seeds: std::ops::Range<u64>,
    node_count: usize,
    plant: Option<Plant>,
) -> Option<Failure> {
    for seed in seeds {
        if let Err(failure) = run(&Plan::new(seed, node_count, plant)) {
            return Some(*failure);
        }
    }
    None
}
