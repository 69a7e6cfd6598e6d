//! How long a connection may be silent.

use std::io;
use std::time::{Duration, Instant};

use crate::event_loop::EventLoop;
use crate::sched::handle::TimerHandle;
use crate::transport::stream::SocketTransport;

/// The time after which a silent connection is ended.
pub(super) struct IdleLimit {
    limit: Duration,
    pub(super) timer: TimerHandle<()>,
    /// When bytes last went in either direction.
    active_at: Instant,
}

impl SocketTransport {
    /// Ends the connection when nothing was received or sent for so long.
    pub(crate) fn set_idle_limit(&self, limit: Duration) {
        let idle = IdleLimit { limit, timer: self.arm_idle(limit), active_at: self.core.now() };
        let before = self.rare(|rare| rare.idle.replace(idle));
        drop(before);
    }

    fn arm_idle(&self, delay: Duration) -> TimerHandle<()> {
        let me = self.me.clone();
        EventLoop::handle(self.core.clone()).call_later(delay, move || {
            if let Some(this) = me.upgrade() {
                this.check_idle();
            }
        })
    }

    /// Bytes went. A callback may have taken long before it wrote, so the time of the turn would not do.
    #[inline(always)]
    pub(super) fn note_activity(&self) {
        if self.rare.borrow().as_ref().is_some_and(|rare| rare.idle.is_some()) {
            self.note_activity_now();
        }
    }

    #[cold]
    #[inline(never)]
    fn note_activity_now(&self) {
        // The clock may be the application's.
        let now = self.core.now();
        self.if_rare(|rare| rare.idle.as_mut().map(|idle| idle.active_at = now));
    }

    fn check_idle(&self) {
        let idle = self.if_rare(|rare| rare.idle.as_ref().map(|idle| (idle.limit, idle.active_at))).flatten();
        let Some((limit, active_at)) = idle else { return };
        let silent = self.core.now().saturating_duration_since(active_at);
        if silent >= limit {
            self.fail(io::Error::new(io::ErrorKind::TimedOut, format!("nothing was received or sent for {limit:?}")));
            return;
        }
        let timer = self.arm_idle(limit - silent);
        let before = self.if_rare(|rare| rare.idle.as_mut().map(|idle| std::mem::replace(&mut idle.timer, timer)));
        drop(before);
    }
}
