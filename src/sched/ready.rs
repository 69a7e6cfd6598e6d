//! The local queue: one first-in-first-out line for everything that runs, so that order is one fact.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::marker::PhantomData;
use std::mem::{ManuallyDrop, MaybeUninit};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use crate::sched::Local;
use crate::sched::ran::{Post, Ran};
use crate::sched::stamp::Stamped;
use crate::sched::task::Runnable;

/// Something in the queue that runs on the loop's thread and is no task.
pub(crate) trait Ready {
    /// Runs it. Catches and reports its own panics.
    fn run(self: Rc<Self>);

    /// What it is; `None` if it would do nothing.
    fn about(self: Rc<Self>) -> Option<Ran>;

    /// The loop was closed before its turn came.
    fn close(self: Rc<Self>) {}

    /// It is not to run any more, queued or not, and lets go of what it captured.
    fn cancel(&self) {}
}

/// What another thread posted.
pub(crate) trait RemoteJob: Send + Sync {
    /// Runs it on the loop's thread; the loop is `local`'s. Catches and reports its own panics.
    fn run(self: Arc<Self>, local: &Local);

    /// The loop, which is `local`'s, was closed before its turn came. Called on the loop's thread.
    fn close(self: Arc<Self>, local: &Local);

    /// What it is.
    fn about(&self) -> Post;
}

/// What another thread posted, and nobody asks about.
pub(crate) trait Posted: Send {
    /// Runs it on the loop's thread; the loop is `local`'s. Catches and reports its own panics.
    fn run(self, local: &Local);

    /// What it is.
    fn about(&self) -> Post;
}

/// Something that was posted, in the queue itself if it is small: memory that one thread allocates and another one frees
/// costs more than all the rest of a post.
pub(crate) struct Posting {
    /// A value of the type that the functions know, or a box of it.
    value: MaybeUninit<[usize; POSTING_WORDS]>,
    functions: &'static PostingFunctions,
}

/// What can be done with a posting's value.
struct PostingFunctions {
    // SAFETY: of all, to be called with the value's address; of the first two one, once, and nothing after it.
    /// Moves the value out and runs it.
    run: unsafe fn(*mut (), &Local),
    /// Drops it in place.
    drop: unsafe fn(*mut ()),
    /// Says what it is.
    about: unsafe fn(*const ()) -> Post,
}

/// The functions of a value.
struct Inline<P>(PhantomData<P>);

impl<P: Posted> Inline<P> {
    const FUNCTIONS: PostingFunctions =
        PostingFunctions { run: Self::run, drop: Posting::drop_as::<P>, about: Self::about };

    /// # Safety
    ///
    /// There must be a `P`, which is not used again.
    unsafe fn run(value: *mut (), local: &Local) {
        // SAFETY: the caller's promise.
        unsafe { value.cast::<P>().read() }.run(local);
    }

    /// # Safety
    ///
    /// There must be a `P`.
    unsafe fn about(value: *const ()) -> Post {
        // SAFETY: the caller's promise.
        unsafe { &*value.cast::<P>() }.about()
    }
}

/// Those of a value in a box.
struct Boxed<P>(PhantomData<P>);

impl<P: Posted> Boxed<P> {
    const FUNCTIONS: PostingFunctions =
        PostingFunctions { run: Self::run, drop: Posting::drop_as::<Box<P>>, about: Self::about };

    /// # Safety
    ///
    /// There must be a `Box<P>`, which is not used again.
    unsafe fn run(value: *mut (), local: &Local) {
        // SAFETY: the caller's promise.
        let posted = unsafe { value.cast::<Box<P>>().read() };
        (*posted).run(local);
    }

    /// # Safety
    ///
    /// There must be a `Box<P>`.
    unsafe fn about(value: *const ()) -> Post {
        // SAFETY: the caller's promise.
        unsafe { &**value.cast::<Box<P>>() }.about()
    }
}

/// So many words of captures need no allocation.
const POSTING_WORDS: usize = 4;

// SAFETY: the value is `Send`, for `Posting::new` takes no other, and nothing refers to it from elsewhere.
unsafe impl Send for Posting {}

impl Posting {
    pub(crate) fn new<P: Posted + 'static>(posted: P) -> Self {
        if size_of::<P>() <= size_of::<[usize; POSTING_WORDS]>() && align_of::<P>() <= align_of::<usize>() {
            Self::of(posted, &Inline::<P>::FUNCTIONS)
        } else {
            Self::of(Box::new(posted), &Boxed::<P>::FUNCTIONS)
        }
    }

    fn of<V>(value: V, functions: &'static PostingFunctions) -> Self {
        debug_assert!(size_of::<V>() <= size_of::<[usize; POSTING_WORDS]>() && align_of::<V>() <= align_of::<usize>());
        let mut room = MaybeUninit::<[usize; POSTING_WORDS]>::uninit();
        // SAFETY: `new` has made sure that the value fits, in size and alignment.
        unsafe { room.as_mut_ptr().cast::<V>().write(value) };
        Self { value: room, functions }
    }

    /// # Safety
    ///
    /// There must be a `V`, which is not used again.
    unsafe fn drop_as<V>(value: *mut ()) {
        // SAFETY: the caller's promise.
        unsafe { value.cast::<V>().drop_in_place() };
    }

    /// Runs it.
    pub(crate) fn run(self, local: &Local) {
        let mut this = ManuallyDrop::new(self);
        // SAFETY: the value is the one that `new` has put there, and, as `this` is not dropped, not used again.
        unsafe { (this.functions.run)(this.value.as_mut_ptr().cast(), local) };
    }
}

impl Posting {
    /// What it is.
    pub(crate) fn about(&self) -> Post {
        // SAFETY: the value is the one that `new` has put there.
        unsafe { (self.functions.about)(self.value.as_ptr().cast()) }
    }
}

impl Drop for Posting {
    fn drop(&mut self) {
        // SAFETY: the value is the one that `new` has put there; `run` does not get here.
        unsafe { (self.functions.drop)(self.value.as_mut_ptr().cast()) };
    }
}

/// One item of the ready queue.
pub(crate) enum Item {
    /// A task to poll.
    Task(Runnable),
    /// A callback, or a transport with something to tell its protocol.
    Callback(Rc<dyn Ready>),
    /// A descriptor is ready: the reactor's key for it, and what for.
    Event { key: u64, readiness: u8 },
    /// The future of `run_until_complete`, if the id is still its own.
    Root(u64),
    /// A job from another thread.
    Job(Arc<dyn RemoteJob>),
    /// The same without a handle.
    Posted(Box<Posting>),
    /// The next one of those that were taken out of the queue of other threads: see [`Local::next_taken`].
    Taken,
}

/// What can be pushed from another thread.
pub(crate) enum Injected {
    Task(Runnable),
    Root(u64),
    Job(Arc<dyn RemoteJob>),
    Posted(Posting),
    /// One of the others, and where it comes from.
    Stamped(Box<Stamped>),
}

impl From<Injected> for Item {
    #[inline]
    fn from(injected: Injected) -> Self {
        #[cold]
        #[inline(never)]
        fn unpack(item: Injected) -> Item {
            item.into()
        }

        match injected {
            Injected::Task(runnable) => Item::Task(runnable),
            Injected::Root(id) => Item::Root(id),
            Injected::Job(job) => Item::Job(job),
            Injected::Posted(posting) => Item::Posted(Box::new(posting)),
            Injected::Stamped(stamped) => unpack(stamped.item),
        }
    }
}

/// The queue of one loop: a ring that grows and, until the loop's end, never shrinks.
///
/// It is no `VecDeque`, because that one copies an item as a whole just after its parts were written, for which the
/// processor has to wait (5 ns for each item, see docs/performance.md). Here the room is made first and the item is then
/// written where it is to be.
pub(crate) struct ReadyQueue {
    /// As many places as a power of two says.
    places: Cell<*mut Item>,
    /// One less than that; zero before the first push.
    mask: Cell<usize>,
    room: Cell<usize>,
    /// Where the first item is, and how many there are. Both count on without end; `mask` makes places of them.
    head: Cell<usize>,
    len: Cell<usize>,
}

impl ReadyQueue {
    pub(crate) fn new() -> Self {
        Self {
            places: Cell::new(std::ptr::NonNull::dangling().as_ptr()),
            mask: Cell::new(0),
            room: Cell::new(0),
            head: Cell::new(0),
            len: Cell::new(0),
        }
    }

    #[inline]
    pub(crate) fn push(&self, item: Item) {
        self.push_with(|| item);
    }

    /// As `push`, of an item that is made where it is to be.
    #[inline(always)]
    pub(crate) fn push_with(&self, make: impl FnOnce() -> Item) {
        let len = self.len.get();
        if len == self.room.get() {
            self.grow();
        }
        let place = self.head.get().wrapping_add(len) & self.mask.get();
        // SAFETY: `place` is below the number of places, of which fewer than all hold an item: this one holds none. `make`
        // is ours, and touches no queue.
        unsafe { self.places.get().add(place).write(make()) };
        self.len.set(len + 1);
    }

    #[inline(always)]
    pub(crate) fn pop(&self) -> Option<Item> {
        let len = self.len.get().checked_sub(1)?;
        let head = self.head.get();
        self.head.set(head.wrapping_add(1));
        self.len.set(len);
        // SAFETY: the first of `len` items, which is not looked at again.
        Some(unsafe { self.places.get().add(head & self.mask.get()).read() })
    }

    /// Has the processor fetch what the item after the next one needs, while the next one runs: in a burst of many tasks
    /// each is in memory that was not looked at for long.
    #[inline(always)]
    pub(crate) fn prefetch(&self) {
        if self.len.get() > 1 {
            let place = self.head.get().wrapping_add(1) & self.mask.get();
            // SAFETY: the second of at least two items, which stays where it is.
            if let Item::Task(runnable) = unsafe { &*self.places.get().add(place) } {
                prefetch(std::ptr::from_ref(runnable.metadata()).cast());
            }
        }
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.len.get()
    }

    /// Looks at the item at a place, counted from the first one. `f` is ours, and touches no queue.
    #[cfg(feature = "test-util")]
    pub(crate) fn look<R>(&self, place: usize, f: impl FnOnce(&Item) -> R) -> R {
        // SAFETY: one of the items, by the assertion, which stays where it is meanwhile.
        f(unsafe { &*self.at(place) })
    }

    /// Exchanges two items, which need not be different ones.
    #[cfg(feature = "test-util")]
    pub(crate) fn swap(&self, a: usize, b: usize) {
        // SAFETY: both are places of items, by the assertion, and nobody refers to what is there.
        unsafe { std::ptr::swap(self.at(a), self.at(b)) };
    }

    #[cfg(feature = "test-util")]
    fn at(&self, place: usize) -> *mut Item {
        assert!(place < self.len.get());
        self.places.get().wrapping_add(self.head.get().wrapping_add(place) & self.mask.get())
    }

    #[cold]
    fn grow(&self) {
        let (old, room) = (self.places.get(), self.room.get());
        let new_room = (room * 2).max(FIRST_ROOM);
        let places: Box<[MaybeUninit<Item>]> = Box::new_uninit_slice(new_room);
        let new = Box::into_raw(places).cast::<Item>();
        let first = self.head.get() & self.mask.get();
        // SAFETY: all `room` places hold items, from `first` on and then from the beginning; they move to the beginning
        // of places that are new and twice as many. The old ones hold nothing then.
        unsafe {
            std::ptr::copy_nonoverlapping(old.add(first), new, room - first);
            std::ptr::copy_nonoverlapping(old, new.add(room - first), first);
            give_back(old, room);
        }
        self.places.set(new);
        self.room.set(new_room);
        self.mask.set(new_room - 1);
        self.head.set(0);
    }

    /// Gives the memory back, for the end of the loop; nothing must be queued.
    pub(crate) fn shrink(&self) {
        if self.len() == 0 {
            drop(self.take());
        }
    }

    /// Leaves a new queue behind.
    fn take(&self) -> Self {
        let new = Self::new();
        self.places.swap(&new.places);
        self.mask.swap(&new.mask);
        self.room.swap(&new.room);
        self.head.swap(&new.head);
        self.len.swap(&new.len);
        new
    }
}

impl Drop for ReadyQueue {
    fn drop(&mut self) {
        while let Some(item) = self.pop() {
            // As a closed loop does with tasks; there are none, see `Local::discard`.
            drop(item);
        }
        // SAFETY: made by `grow`, unless there are none, and they hold no items any more.
        unsafe { give_back(self.places.get(), self.room.get()) };
    }
}

/// Has the processor fetch what is at an address, where it can.
#[inline(always)]
pub(crate) fn prefetch(address: *const ()) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a hint, which is good for any address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}

/// Frees places, not what is in them.
///
/// # Safety
///
/// They must have been made by `grow`, or `room` be zero.
unsafe fn give_back(places: *mut Item, room: usize) {
    let places = std::ptr::slice_from_raw_parts_mut(places.cast::<MaybeUninit<Item>>(), room);
    // SAFETY: the caller's promise. An empty box of any address frees nothing.
    drop(unsafe { Box::from_raw(places) });
}

/// How many items a queue first has room for.
const FIRST_ROOM: usize = 64;

/// A number for this thread that no other thread has, also not after this one has ended.
pub(crate) fn thread_token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    thread_local! {
        static TOKEN: Cell<u64> = const { Cell::new(0) };
    }
    TOKEN.with(|token| {
        if token.get() == 0 {
            token.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        token.get()
    })
}

/// A value that everybody may refer to and only the thread that made it can reach.
pub(crate) struct ThreadBound<T> {
    /// The token of the thread that made it.
    owner: u64,
    /// Holds one strong count of an `Rc<T>`; null before `fill` and after `clear`.
    value: AtomicPtr<T>,
}

impl<T> ThreadBound<T> {
    /// Of this thread, and nothing yet.
    pub(crate) fn empty() -> Self {
        Self { owner: thread_token(), value: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// Takes the value, once. Does nothing on another thread.
    pub(crate) fn fill(&self, value: Rc<T>) {
        if self.is_own_thread() && self.value.load(Ordering::Relaxed).is_null() {
            self.value.store(Rc::into_raw(value).cast_mut(), Ordering::Relaxed);
        }
    }

    /// The token of the thread that made it.
    pub(crate) fn owner(&self) -> u64 {
        self.owner
    }

    /// Whether this is the thread that made it.
    #[inline]
    pub(crate) fn is_own_thread(&self) -> bool {
        thread_token() == self.owner
    }

    /// The value: on the thread that made it, until it was cleared.
    #[inline]
    pub(crate) fn get(&self) -> Option<Rc<T>> {
        if !self.is_own_thread() {
            return None;
        }
        let value = self.value.load(Ordering::Relaxed);
        // SAFETY: tokens are never given to a second thread, so this is the thread on which the `Rc` was made, and its
        // count is not touched by another one. A pointer that is not null came from `Rc::into_raw` and stands for a
        // count that `clear` alone gives up, on this thread, too.
        (!value.is_null()).then(|| unsafe {
            Rc::increment_strong_count(value);
            Rc::from_raw(value)
        })
    }

    /// Gives the value up. Does nothing on another thread.
    pub(crate) fn clear(&self) {
        if !self.is_own_thread() {
            return;
        }
        let value = self.value.swap(std::ptr::null_mut(), Ordering::Relaxed);
        if !value.is_null() {
            // SAFETY: as in `get`; the swap makes sure that the count is given up once.
            drop(unsafe { Rc::from_raw(value) });
        }
    }
}

impl<T> Drop for ThreadBound<T> {
    fn drop(&mut self) {
        // On another thread the value is leaked rather than touched. The loop clears it when it is closed, so that
        // only a loop that was leaked itself gets here with something left.
        self.clear();
    }
}
