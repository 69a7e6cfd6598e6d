//! Context variables: values that follow a task and whatever it starts, as asyncio's `contextvars` do.
//!
//! A context is a small sorted vector behind an `Rc`. Copying one clones the `Rc`; setting a variable clones the vector
//! only where somebody else still looks at it. A program that sets no variable pays for a null pointer in each task. A
//! context in which one is set gets an allocation of its own, by which the token knows it again.

use std::any::Any;
use std::cell::{Cell, RefCell};
use std::fmt;
use std::marker::PhantomData;
use std::rc::{Rc, Weak};
use std::sync::atomic::{AtomicU64, Ordering};

/// The values of a context, sorted by the variables' ids; `None` is the empty context.
type Map = Option<Rc<Vec<(u64, Rc<dyn Any>)>>>;

/// The context that a task or callback runs in.
pub(crate) enum Slot {
    /// Nobody else refers to it: no allocation beyond the map's.
    Private(Map),
    /// Somebody holds a [`Context`] for it.
    Shared(Context),
}

impl Slot {
    pub(crate) const EMPTY: Slot = Slot::Private(None);

    /// Whether it holds nothing, and dropping it does nothing.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Slot::Private(None))
    }

    /// A copy for something new: changes on either side stay there. O(1).
    pub(crate) fn fork(&self) -> Slot {
        Slot::Private(match self {
            Slot::Private(map) => map.clone(),
            Slot::Shared(context) => context.map.borrow().clone(),
        })
    }

    /// The context itself, which from now on can be told from others.
    fn share(&mut self) -> &Context {
        if let Slot::Private(map) = self {
            *self = Slot::Shared(Context::with_map(map.take()));
        }
        match self {
            Slot::Shared(context) => context,
            Slot::Private(_) => unreachable!("the slot was made shared above"),
        }
    }
}

thread_local! {
    /// The context of what runs on this thread just now.
    static CURRENT: Cell<Slot> = const { Cell::new(Slot::EMPTY) };
    /// Whether that is more than empty. It needs no destructor, so looking at it is one load: all that a program pays
    /// that sets no variable.
    static FILLED: Cell<bool> = const { Cell::new(false) };
}

/// Makes `slot` the current context and returns the one before.
#[inline]
pub(crate) fn swap(slot: Slot) -> Slot {
    if slot.is_empty() && !FILLED.get() {
        return Slot::EMPTY;
    }
    exchange(slot)
}

#[cold]
fn exchange(slot: Slot) -> Slot {
    // While the thread ends there is no context any more; what runs then sees an empty one.
    CURRENT
        .try_with(|current| {
            FILLED.set(!slot.is_empty());
            current.replace(slot)
        })
        .unwrap_or(Slot::EMPTY)
}

/// A copy of the current context, for something that is about to be scheduled.
#[inline(always)]
pub(crate) fn fork_current() -> Slot {
    if FILLED.get() { fork_filled() } else { Slot::EMPTY }
}

#[cold]
#[inline(never)]
fn fork_filled() -> Slot {
    with_current(|slot| slot.fork())
}

fn with_current<R>(f: impl FnOnce(&mut Slot) -> R) -> R {
    let mut slot = swap(Slot::EMPTY);
    let result = f(&mut slot);
    swap(slot);
    result
}

/// Runs `f` in the context, and puts the one before back, also when `f` panics. Returns what the context was left as.
pub(crate) fn enter<R>(slot: Slot, f: impl FnOnce() -> R) -> (R, Slot) {
    struct Restore(Option<Slot>);
    impl Drop for Restore {
        fn drop(&mut self) {
            if let Some(outer) = self.0.take() {
                swap(outer);
            }
        }
    }
    let mut outer = Restore(Some(swap(slot)));
    let result = f();
    let left = swap(outer.0.take().unwrap_or(Slot::EMPTY));
    (result, left)
}

/// Calls `f` in the context that waits there for callbacks; in the current one while a callback runs, whose it is then.
pub(crate) fn within(place: &Cell<Slot>, f: impl FnOnce()) {
    let slot = place.replace(Slot::EMPTY);
    if slot.is_empty() {
        return f();
    }
    let ((), slot) = enter(slot, f);
    place.set(slot);
}

/// Reads or changes the current map.
fn with_map<R>(f: impl FnOnce(&mut Map) -> R) -> R {
    with_current(|slot| match slot {
        Slot::Private(map) => f(map),
        Slot::Shared(context) => f(&mut context.map.borrow_mut()),
    })
}

/// Whether this is the current context. One that nobody has shared is none that a token can have come from.
fn is_current(context: &Weak<RefCell<Map>>) -> bool {
    // While the thread ends there is no context, and nothing to be put back.
    CURRENT.try_with(|_| ()).is_err()
        || with_current(|slot| match slot {
            Slot::Shared(current) => Rc::as_ptr(&current.map) == context.as_ptr(),
            Slot::Private(_) => false,
        })
}

fn lookup(map: &Map, id: u64) -> Option<Rc<dyn Any>> {
    let map = map.as_ref()?;
    let place = map.binary_search_by_key(&id, |&(id, _)| id).ok()?;
    Some(map[place].1.clone())
}

/// Sets or, with `None`, unsets a value; returns the one before.
fn replace(map: &mut Map, id: u64, value: Option<Rc<dyn Any>>) -> Option<Rc<dyn Any>> {
    let values = Rc::make_mut(map.get_or_insert_default());
    match (values.binary_search_by_key(&id, |&(id, _)| id), value) {
        (Ok(place), Some(value)) => Some(std::mem::replace(&mut values[place].1, value)),
        (Ok(place), None) => Some(values.remove(place).1),
        (Err(place), Some(value)) => {
            values.insert(place, (id, value));
            None
        }
        (Err(_), None) => None,
    }
}

/// A set of values of [`ContextVar`]s.
///
/// Every task and every callback runs in a copy of the context that was current where it was made, so that what it
/// sets is seen by what it starts, and by nobody else. A `Context` is a handle: clones refer to the same values, while
/// [`copy`](Self::copy) makes an independent one.
///
/// ```
/// use roundelay::{Context, ContextVar};
///
/// static USER: ContextVar<&str> = ContextVar::new("user");
///
/// let context = Context::new();
/// context.run(|| USER.set("ann"));
/// assert_eq!(USER.get(), None);
/// assert_eq!(context.run(|| USER.get()), Some("ann"));
/// ```
#[derive(Clone)]
pub struct Context {
    map: Rc<RefCell<Map>>,
}

impl Context {
    /// An empty context.
    pub fn new() -> Self {
        Self::with_map(None)
    }

    fn with_map(map: Map) -> Self {
        Self { map: Rc::new(RefCell::new(map)) }
    }

    /// The context that a slot stands for.
    pub(crate) fn from_slot(slot: Slot) -> Self {
        match slot {
            Slot::Private(map) => Self::with_map(map),
            Slot::Shared(context) => context,
        }
    }

    /// The context of the running task or callback itself: what is set in the one is seen in the other.
    #[doc(alias = "copy_context")]
    pub fn current() -> Self {
        with_current(|slot| slot.share().clone())
    }

    /// An independent copy, made in constant time.
    pub fn copy(&self) -> Self {
        Self::with_map(self.map.borrow().clone())
    }

    /// Runs `f` in this context. What it sets stays set in the context.
    pub fn run<R>(&self, f: impl FnOnce() -> R) -> R {
        enter(Slot::Shared(self.clone()), f).0
    }

    /// How many variables have a value here.
    pub fn len(&self) -> usize {
        self.map.borrow().as_ref().map_or(0, |values| values.len())
    }

    /// Whether no variable has a value here.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Default for Context {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context").field("len", &self.len()).finish()
    }
}

/// A variable with a value in each [`Context`]. Best made as a `static`.
///
/// ```
/// use roundelay::ContextVar;
///
/// static REQUEST: ContextVar<u32> = ContextVar::new("request");
///
/// roundelay::block_on(async {
///     REQUEST.set(1);
///     let child = roundelay::spawn(async {
///         let inherited = REQUEST.get();
///         REQUEST.set(2); // stays in the child
///         inherited
///     });
///     assert_eq!(child.await.unwrap(), Some(1));
///     assert_eq!(REQUEST.get(), Some(1));
/// });
/// ```
pub struct ContextVar<T> {
    name: &'static str,
    /// Zero until the variable is used for the first time.
    id: AtomicU64,
    /// Makes what `get` returns where nothing was set.
    default: Option<fn() -> T>,
    value: PhantomData<fn() -> T>,
}

impl<T: Clone + 'static> ContextVar<T> {
    /// A variable that has no value until one is set. The name is for people.
    pub const fn new(name: &'static str) -> Self {
        Self { name, id: AtomicU64::new(0), default: None, value: PhantomData }
    }

    /// A variable whose value is that of `default` until one is set.
    pub const fn with_default(name: &'static str, default: fn() -> T) -> Self {
        Self { name, id: AtomicU64::new(0), default: Some(default), value: PhantomData }
    }

    /// The name given to [`new`](Self::new).
    pub fn name(&self) -> &'static str {
        self.name
    }

    fn id(&self) -> u64 {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        match self.id.load(Ordering::Relaxed) {
            0 => {
                let fresh = NEXT.fetch_add(1, Ordering::Relaxed);
                // Whoever comes second takes the id of the first.
                match self.id.compare_exchange(0, fresh, Ordering::Relaxed, Ordering::Relaxed) {
                    Ok(_) => fresh,
                    Err(id) => id,
                }
            }
            id => id,
        }
    }

    fn typed(value: &Rc<dyn Any>) -> T {
        value.downcast_ref::<T>().expect("an id belongs to one variable").clone()
    }

    /// The value in the current context, else the default, else `None`.
    pub fn get(&self) -> Option<T> {
        match with_map(|map| lookup(map, self.id())) {
            Some(value) => Some(Self::typed(&value)),
            None => self.default.map(|default| default()),
        }
    }

    /// Sets the value in the current context. The token brings the value before back.
    pub fn set(&self, value: T) -> Token<T> {
        let (id, value) = (self.id(), Rc::new(value));
        with_current(|slot| {
            let context = slot.share();
            let old = replace(&mut context.map.borrow_mut(), id, Some(value));
            Token { id, old, context: Rc::downgrade(&context.map), value: PhantomData }
        })
    }

    /// Undoes a [`set`](Self::set), in the context in which it was made.
    ///
    /// # Panics
    ///
    /// If the token was made by another variable, or in another context. In a destructor that runs because the thread
    /// panics already, the latter is ignored, and the value stays.
    #[track_caller]
    pub fn reset(&self, token: Token<T>) {
        let id = self.id();
        assert!(token.id == id, "ContextVar::reset(): the token belongs to another variable than {:?}", self.name);
        if !is_current(&token.context) {
            if std::thread::panicking() {
                return;
            }
            panic!("ContextVar::reset(): the token of {:?} was made in another context", self.name);
        }
        let dropped = with_map(|map| replace(map, id, token.old));
        drop(dropped);
    }
}

impl<T> fmt::Debug for ContextVar<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ContextVar").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Remembers the value that a [`ContextVar::set`] replaced.
pub struct Token<T> {
    /// The variable's id.
    id: u64,
    /// The value before, if there was one.
    old: Option<Rc<dyn Any>>,
    /// Where it was set. Nothing else can come to stand at its address as long as the token is there.
    context: Weak<RefCell<Map>>,
    value: PhantomData<fn() -> T>,
}

impl<T: Clone + 'static> Token<T> {
    /// The value before the `set`, if there was one.
    pub fn old_value(&self) -> Option<T> {
        self.old.as_ref().map(ContextVar::typed)
    }
}

impl<T> fmt::Debug for Token<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("had_value", &self.old.is_some()).finish()
    }
}
