//! Waits that end when they are over, to some tens of microseconds: the runtime's own end at whole milliseconds,
//! one too late on the average, and many of them together.

use std::cell::RefCell;
use std::collections::BinaryHeap;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::time::{Duration, Instant};

use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::unix::AsyncFd;
use tokio::sync::oneshot;

/// One timer of the kernel, set to the next wait that ends.
pub struct Clock {
    timer: AsyncFd<OwnedFd>,
    waits: RefCell<BinaryHeap<Wait>>,
}

struct Wait {
    until: Instant,
    over: oneshot::Sender<()>,
}

impl PartialEq for Wait {
    fn eq(&self, other: &Self) -> bool {
        self.until == other.until
    }
}

impl Eq for Wait {}

impl PartialOrd for Wait {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Wait {
    /// The next one is the greatest.
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        other.until.cmp(&self.until)
    }
}

impl Clock {
    /// Starts one in the local set that it is called in.
    pub fn start() -> io::Result<Rc<Self>> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        let timer = timerfd_create(TimerfdClockId::Monotonic, flags)?;
        #[expect(
            deprecated,
            reason = "sound for a descriptor that is owned; what came for it needs `unsafe`"
        )]
        let timer = AsyncFd::new(timer)?;
        let clock = Rc::new(Self { timer, waits: RefCell::default() });
        let runs = Rc::clone(&clock);
        tokio::task::spawn_local(async move {
            // Without it no reply ever leaves, which every client notices.
            let _ = runs.run().await;
        });
        Ok(clock)
    }

    /// Waits for so long.
    pub async fn sleep(&self, time: Duration) -> io::Result<()> {
        let (over, wait) = oneshot::channel();
        let until = Instant::now() + time;
        let is_next = self.waits.borrow().peek().is_none_or(|next| until < next.until);
        self.waits.borrow_mut().push(Wait { until, over });
        if is_next {
            self.set(time)?;
        }
        wait.await.map_err(io::Error::other)
    }

    async fn run(&self) -> io::Result<()> {
        loop {
            self.timer.readable().await?.clear_ready();
            match rustix::io::read(self.timer.get_ref(), &mut [0_u8; 8]) {
                Ok(_) | Err(rustix::io::Errno::AGAIN) => {}
                Err(error) => return Err(error.into()),
            }
            let mut waits = self.waits.borrow_mut();
            let now = Instant::now();
            while waits.peek().is_some_and(|next| next.until <= now) {
                if let Some(Wait { over, .. }) = waits.pop() {
                    // Whoever waited may have hung up.
                    let _ = over.send(());
                }
            }
            if let Some(next) = waits.peek() {
                self.set(next.until - now)?;
            }
        }
    }

    fn set(&self, time: Duration) -> io::Result<()> {
        // Zero would stop it.
        let time = time.max(Duration::from_nanos(1));
        let never = Timespec { tv_sec: 0, tv_nsec: 0 };
        let it_value = Timespec {
            tv_sec: time.as_secs().try_into().map_err(io::Error::other)?,
            tv_nsec: time.subsec_nanos().into(),
        };
        let timer = Itimerspec { it_interval: never, it_value };
        timerfd_settime(self.timer.get_ref(), TimerfdTimerFlags::empty(), &timer)?;
        Ok(())
    }
}
