//! Task groups: what the application's own code does to them when it panics where nobody thinks of it: in a conversion, in
//! the text of an error, in the destructor of a value (behaviours CB).

mod common;

use std::error::Error;
use std::fmt;
use std::future::{Future, pending};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::rc::Rc;

use common::{DropCounter, Log, complete, on_loop, take_reports};
use futures::FutureExt;
use futures::poll;
use roundelay::{GroupError, TaskGroup, yield_now};

/// An error that cannot be made into one for the group.
struct Unfit;

impl From<Unfit> for Box<dyn Error + Send + Sync> {
    fn from(_: Unfit) -> Self {
        panic!("cannot be converted")
    }
}

/// An error without a text.
#[derive(Debug)]
struct Mute;

impl fmt::Display for Mute {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("has nothing to say")
    }
}

impl Error for Mute {}

struct Loud;

impl Drop for Loud {
    fn drop(&mut self) {
        panic!("does not go quietly")
    }
}

fn waiting(drops: &DropCounter) -> impl Future<Output = ()> + 'static {
    let guard = drops.guard();
    async move {
        let _guard = guard;
        pending().await
    }
}

/// The panic that a future ends with.
async fn panic_of<F: Future<Output = Result<T, GroupError>>, T>(future: F) -> &'static str {
    let payload = AssertUnwindSafe(future).catch_unwind().await.map(drop).unwrap_err();
    payload.downcast_ref::<&str>().unwrap()
}

/// A panic of what makes an error of the child's output is one of the child: the group fails by it.
#[test]
fn a_conversion_in_a_child() {
    on_loop(|el| {
        let drops = DropCounter::new();
        let waiting = waiting(&drops);
        let error = complete(el, async {
            let scope = TaskGroup::scope(async |group| {
                group.task_builder().name("unfit").spawn(async { Err::<(), _>(Unfit) });
                group.spawn(waiting);
                pending::<()>().await
            });
            scope.await.unwrap_err()
        });
        assert_eq!(error.to_string(), "task group failed: unfit: panicked: cannot be converted");
        assert!(error.iter().all(|error| error.is_panic()));
        assert_eq!(drops.count(), 1);
    });
}

/// An error whose text panics keeps neither the others nor the panic of the body from being heard.
#[test]
fn an_error_without_a_text() {
    on_loop(|el| {
        let log = Log::new();
        let heard = log.clone();
        el.set_exception_handler(Some(Rc::new(move |_, context| heard.push(context.message.as_ref()))));
        complete(el, async {
            let scope = TaskGroup::scope(async |group| {
                group.task_builder().name("mute").spawn(async { Err::<(), _>(Mute) });
                group.task_builder().name("other").spawn(async { Err::<(), _>("is heard") });
                pending::<()>().await
            });
            {
                let mut scope = pin!(scope);
                assert!(poll!(scope.as_mut()).is_pending());
                yield_now().await;
            }
            let text = |message| format!("Exception in a task group whose scope was dropped: {message}");
            assert_eq!(log.take(), ["mute", "other: is heard"].map(text));

            let scope = TaskGroup::scope(async |group| {
                group.task_builder().name("mute").eager(true).spawn(async { Err::<(), _>(Mute) });
                panic!("the body") as ()
            });
            assert_eq!(panic_of(scope).await, "the body");
            assert_eq!(log.take(), ["Exception in a task group whose body has panicked: mute"]);
        });
    });
}

/// The destructor of a value that the body has returned and nobody is given takes no error with it.
#[test]
fn a_value_that_panics() {
    on_loop(|el| {
        complete(el, async {
            let scope = TaskGroup::scope(async |group| {
                group.task_builder().name("child").spawn(async { Err::<(), _>("has failed") });
                Loud
            });
            assert_eq!(panic_of(scope).await, "does not go quietly");
        });
        let report = take_reports().join("\n");
        assert!(report.starts_with("Exception in a task group whose body has panicked: child: has failed"), "{report}");
    });
}
