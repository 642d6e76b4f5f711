//! The process dies (SIGKILL): at a chosen call, at any time, and again and again.

use crate::Plan;
use crate::bench::{Bench, CALLS, SETUPS, STEPS, Setup, ended, setup};
use crate::figures::{Figures, each};
use crate::judge;
use crate::oracle::Said;
use crate::shim::{Orders, calls};
use crate::world::Running;

/// How many calls of interest an undisturbed run of these records makes.
fn calls_of(setup: Setup, records: usize) -> u64 {
    let bench = Bench::new(setup, records);
    let orders = Orders { log: true, ..Orders::default() };
    let run = bench.apply(Some(&orders), &mut Figures::default());
    assert_eq!(run.code, 1, "{}", run.stderr);
    calls(&bench.world).iter().map(|call| call.number).max().expect("calls")
}

/// T01: just before or just after a call on the state or a socket; the calls are gone through
/// evenly, so that in full each is met.
pub fn at_each_call(plan: &Plan) -> Figures {
    let records = plan.amount(40, 120).min(120);
    let items = plan.amount(32, 1600);
    let setups: Vec<Setup> = SETUPS[..4].iter().chain(&CALLS).chain(&STEPS).copied().collect();
    let known: Vec<u64> = setups.iter().map(|setup| calls_of(*setup, records)).collect();
    each(plan, "T01", items, |item, chance, figures| {
        let (setup, step) = (item % setups.len(), (item / setups.len()) as u64);
        let steps = items.div_ceil(setups.len()) as u64;
        let width = known[setup].div_ceil(steps);
        let number = (step * known[setup] / steps + chance.u64(0..width) + 1).min(known[setup]);
        let when = if chance.bool() { "before" } else { "after" };
        let bench = Bench::new(setups[setup], records);
        let orders = Orders { kill: Some(format!("{when}:{number}")), ..Orders::default() };
        let run = bench.apply(Some(&orders), figures);
        let kills = u64::from(run.by_signal);
        judge::holds(&bench, &bench.seen());
        let run = bench.apply(None, figures);
        judge::complete(&bench, &run, &bench.seen(), kills, figures);
    })
}

/// T02: from outside, at any instruction, when the far side has read a random number of requests.
pub fn at_any_time(plan: &Plan) -> Figures {
    let (worlds, kills) = (plan.amount(6, 48), if plan.full { 25 } else { 5 });
    each(plan, "T02", worlds, |item, chance, figures| {
        let bench = Bench::new(setup(item), 20 * kills);
        let mut killed = 0;
        for _ in 0..kills {
            let running = Running::of(&mut bench.command(None));
            let target = bench.world.far_side().tally().requests + chance.u64(0..40);
            bench.world.until(&running, target);
            let run = running.kill(&bench.world);
            figures.starts += 1;
            figures.kills += u64::from(run.by_signal);
            killed += u64::from(run.by_signal);
            judge::holds(&bench, &bench.seen());
        }
        let run = bench.apply(None, figures);
        judge::complete(&bench, &run, &bench.seen(), killed, figures);
    })
}

/// T03: killed at a random call of every start until one gets through.
pub fn until_done(plan: &Plan) -> Figures {
    let (worlds, records) = (plan.amount(2, 12), if plan.full { 1000 } else { 150 });
    each(plan, "T03", worlds, |item, chance, figures| {
        let bench = Bench::new(setup(item), records);
        let mut killed = 0;
        loop {
            // A later start reads more before it sends; it has to get on in the mean.
            let number = chance.u64(1..400 + 25 * killed);
            let orders = Orders { kill: Some(format!("before:{number}")), ..Orders::default() };
            let mut running = Running::of(&mut bench.command(Some(&orders)));
            let run = ended(&mut running, &bench.world);
            figures.starts += 1;
            if !run.by_signal {
                judge::complete(&bench, &run, &bench.seen(), killed, figures);
                return;
            }
            killed += 1;
            figures.kills += 1;
            judge::holds(&bench, &bench.seen());
            let settled = Said::found(&bench.world, "p").map_or(0, |said| said.settled);
            assert!(killed < 1000, "no end after {killed} kills, {settled} settled");
        }
    })
}
