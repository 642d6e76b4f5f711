//! How starts begin and end: stopped by a signal, many at once, under a wall clock that jumps.

use rustix::process::Signal;

use crate::Plan;
use crate::bench::{Bench, SETUPS, ended};
use crate::figures::{Figures, each};
use crate::judge;
use crate::oracle::IN_FLIGHT;
use crate::shim::Orders;
use crate::world::Running;

/// T11: SIGTERM at a random moment, while replies take their time or never come.
pub fn stopped(plan: &Plan) -> Figures {
    let items = plan.amount(8, 160);
    each(plan, "T11", items, |item, chance, figures| {
        let bench = Bench::with(
            SETUPS[item % 4],
            120,
            "stop_grace: 30ms, timeout: 300ms, stop_when: { consecutive: 100000 }, ",
        );
        let slow = ["delay 20ms", "late 100ms", "hang", "delay 200ms"][chance.usize(0..4)];
        bench.world.answers(&format!("* * 30% seed={} -> {slow}", chance.u32(0..1000)));
        let mut running = Running::of(&mut bench.command(None));
        // In some the signal comes while it begins.
        if !bench.world.until(&running, chance.u64(0..60)) {
            let run = ended(&mut running, &bench.world);
            panic!("it ended by itself with {}\n{}", run.code, run.stderr);
        }
        running.signal(Signal::TERM);
        let run = ended(&mut running, &bench.world);
        figures.starts += 1;
        figures.faults += 1;
        assert!(run.by_signal || [0, 6, 7].contains(&run.code), "it ended with {}\n{}", run.code, run.stderr);
        judge::holds(&bench, &bench.world.seen());
        if run.code == 7 && !run.by_signal {
            let said = bench.case().holds(&bench.world.seen());
            assert!(said.in_state(IN_FLIGHT).is_empty(), "an orderly stop leaves nothing in flight");
        }
        bench.world.answers(&bench.setup.usual_replies());
        let run = bench.apply(None, figures);
        let journal = bench.world.seen();
        assert!([0, 1, 6].contains(&run.code), "then it ended with {}\n{}", run.code, run.stderr);
        let said = bench.case().holds_at_the_end(&journal);
        figures.requests += journal.len() as u64;
        figures.resent += said.noted.values().sum::<u64>();
        figures.doubt += said.in_state(crate::oracle::IN_DOUBT).len() as u64;
    })
}

/// T12: many processes on one run. One works, the others refuse at once and disturb nothing.
pub fn many_at_once(plan: &Plan) -> Figures {
    let (rounds, processes) = (plan.amount(2, 20), if plan.full { 50 } else { 12 });
    each(plan, "T12", rounds, |item, _, figures| {
        let bench = Bench::new(SETUPS[item % 4], 100);
        // The one that works waits for a reply that never comes, until all others have ended.
        bench.world.answers("* * -> hang");
        let all: Vec<Running> = (0..processes).map(|_| Running::of(&mut bench.command(None))).collect();
        figures.starts += processes;
        figures.faults += processes - 1;
        let (over, ends) = std::sync::mpsc::channel();
        let bench = &bench;
        let (refused, working) = std::thread::scope(|scope| {
            for mut running in all {
                let over = over.clone();
                let process = rustix::process::Pid::from_raw(running.id().cast_signed()).expect("a process");
                scope.spawn(move || {
                    let run = ended(&mut running, &bench.world);
                    let _ = over.send((process, run));
                });
            }
            let refused: Vec<_> = ends.iter().take(usize::try_from(processes).expect("few") - 1).collect();
            // The last is the one that works: it is found by the lock and killed.
            let holder = bench.world.read(".runner/default/state/p.lock");
            let holder = holder.split_whitespace().nth(1).and_then(|id| id.parse().ok()).expect("a holder");
            let holder = rustix::process::Pid::from_raw(holder).expect("a process");
            assert!(refused.iter().all(|(process, _)| *process != holder), "the holder has ended");
            rustix::process::kill_process(holder, Signal::KILL).expect("a kill");
            (refused, ends.recv().expect("the last"))
        });
        for (_, run) in &refused {
            assert_eq!(run.code, 5, "{}", run.stderr);
            assert!(run.stderr.contains("another start of p is under way"), "{}", run.stderr);
        }
        assert!(working.1.by_signal, "{}", working.1.stderr);
        figures.kills += 1;
        judge::holds(bench, &bench.world.seen());
        bench.world.answers(&bench.setup.usual_replies());
        let run = bench.apply(None, figures);
        assert!([0, 1, 6].contains(&run.code), "then it ended with {}\n{}", run.code, run.stderr);
        bench.case().holds_at_the_end(&bench.world.seen());
        figures.requests += bench.world.seen().len() as u64;
    })
}

/// T13: the wall clock jumps an hour on, an hour back, and to 1970, again and again.
pub fn clock(plan: &Plan) -> Figures {
    let items = plan.amount(4, 24);
    each(plan, "T13", items, |item, chance, figures| {
        let bench = Bench::new(SETUPS[item % 4], 200);
        let now = std::time::UNIX_EPOCH.elapsed().map_or(0, |since| since.as_secs()).cast_signed();
        let shifts = [3600, -3600, -now, 0, 86_400 * 365];
        let order: Vec<String> = (0..20)
            .map(|n| format!("{}:{}", n * 30 + chance.u64(1..30), shifts[chance.usize(0..shifts.len())]))
            .collect();
        figures.faults += order.len() as u64;
        let orders = Orders { clock: Some(order.join(",")), ..Orders::default() };
        let run = bench.apply(Some(&orders), figures);
        judge::complete(&bench, &run, &bench.world.seen(), 0, figures);
    })
}
