//! What a check has found.

use std::fmt;

/// What a check of one sentence of the contract has found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// The transport does so.
    Passed,
    /// It does not: what was seen in its place.
    Failed(Vec<String>),
    /// It was not asked: what the transport was said not to have.
    NotSupported(&'static str),
}

/// One item of a [`Conformance`] report.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ItemReport {
    /// The item's name, by which [`only`](super::CheckTransport::only) knows it.
    pub name: &'static str,
    /// The sentence of the contract.
    pub contract: &'static str,
    /// What was found.
    pub verdict: Verdict,
}

/// What [`check_transport`](super::check_transport) has found, item by item. `Display` lists all of it.
#[derive(Clone, Debug)]
#[must_use = "a report says nothing unless it is looked at: assert_passed()"]
pub struct Conformance {
    items: Vec<ItemReport>,
}

impl Conformance {
    pub(super) fn new(items: Vec<ItemReport>) -> Self {
        Self { items }
    }

    /// All items, in the order in which they were checked.
    pub fn items(&self) -> &[ItemReport] {
        &self.items
    }

    /// Those that failed.
    pub fn failed(&self) -> impl Iterator<Item = &ItemReport> {
        self.items.iter().filter(|item| matches!(item.verdict, Verdict::Failed(_)))
    }

    /// Whether nothing failed.
    pub fn is_passed(&self) -> bool {
        self.failed().next().is_none()
    }

    /// Fails a test whose transport does not keep the contract.
    ///
    /// # Panics
    ///
    /// If an item failed; the message is the whole list.
    #[track_caller]
    pub fn assert_passed(&self) {
        assert!(self.is_passed(), "the transport does not keep the contract\n{self}");
    }
}

impl fmt::Display for Conformance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut counts = [0; 3];
        for ItemReport { name, contract, verdict } in &self.items {
            match verdict {
                Verdict::Passed => {
                    counts[0] += 1;
                    writeln!(f, "ok             {name}: {contract}")?;
                }
                Verdict::Failed(problems) => {
                    counts[1] += 1;
                    writeln!(f, "FAILED         {name}: {contract}")?;
                    for problem in problems {
                        writeln!(f, "                 {problem}")?;
                    }
                }
                Verdict::NotSupported(what) => {
                    counts[2] += 1;
                    writeln!(f, "not supported  {name}: {contract} ({what})")?;
                }
            }
        }
        let [passed, failed, not_supported] = counts;
        write!(f, "{passed} ok, {failed} failed, {not_supported} not supported")
    }
}
