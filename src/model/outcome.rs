//! What became of a record.

use super::Value;

/// The state of a record. Every record is in exactly one of these at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum State {
    /// Not sent, or certainly without effect so far.
    Pending = 0,
    /// An attempt may be under way.
    InFlight = 1,
    /// The far side acted.
    Delivered = 2,
    /// The far side said no, or every try certainly did nothing.
    Failed = 3,
    /// Never sent: the record itself is at fault.
    Invalid = 4,
    /// Left out by a rule of the pipeline.
    Skipped = 5,
    /// May have arrived; the outcome is not known.
    InDoubt = 6,
}

impl State {
    /// All states in their order on disk.
    pub const ALL: [Self; 7] = [
        Self::Pending,
        Self::InFlight,
        Self::Delivered,
        Self::Failed,
        Self::Invalid,
        Self::Skipped,
        Self::InDoubt,
    ];

    /// The name in files, machine output and messages.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::InFlight => "in_flight",
            Self::Delivered => "delivered",
            Self::Failed => "failed",
            Self::Invalid => "invalid",
            Self::Skipped => "skipped",
            Self::InDoubt => "in_doubt",
        }
    }

    /// The state with this number in the checkpoint.
    #[must_use]
    pub fn from_number(number: u8) -> Option<Self> {
        Self::ALL.get(usize::from(number)).copied()
    }

    /// Whether nothing more happens to the record by itself.
    #[must_use]
    pub const fn is_settled(self) -> bool {
        !matches!(self, Self::Pending | Self::InFlight)
    }
}

/// What is kept of a record once it is settled.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    /// What became of it.
    pub state: State,
    /// HTTP status of the deciding reply, 0 when there was none.
    pub status: u16,
    /// Stable word for the reason: the far side's own word, or a rule of ours; empty when
    /// delivered as usual.
    pub class: String,
    /// What the far side or the rule said, for people.
    pub message: String,
    /// Requests that may have left, over all starts.
    pub attempts: u32,
    /// What the endpoint's `captures` read from the reply; an object, or absent.
    pub captures: Value,
}

/// How many records are in each state; they add up to the records read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// The far side acted.
    pub delivered: u64,
    /// The far side said no.
    pub failed: u64,
    /// Never sent, at fault.
    pub invalid: u64,
    /// Left out by rule.
    pub skipped: u64,
    /// May have arrived.
    pub in_doubt: u64,
    /// Pending: not sent, or certainly without effect.
    pub unsent: u64,
}

/// For programs: every counter with the total in front.
impl serde::Serialize for Counts {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct as _;
        let mut fields = serializer.serialize_struct("Counts", 7)?;
        fields.serialize_field("total", &self.total())?;
        fields.serialize_field("delivered", &self.delivered)?;
        fields.serialize_field("failed", &self.failed)?;
        fields.serialize_field("invalid", &self.invalid)?;
        fields.serialize_field("skipped", &self.skipped)?;
        fields.serialize_field("in_doubt", &self.in_doubt)?;
        fields.serialize_field("unsent", &self.unsent)?;
        fields.end()
    }
}

impl Counts {
    /// All records.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.settled() + self.unsent
    }

    /// Records with an outcome.
    #[must_use]
    pub const fn settled(&self) -> u64 {
        self.delivered + self.failed + self.invalid + self.skipped + self.in_doubt
    }

    /// The counter of a state.
    pub const fn of(&mut self, state: State) -> &mut u64 {
        match state {
            State::Pending | State::InFlight => &mut self.unsent,
            State::Delivered => &mut self.delivered,
            State::Failed => &mut self.failed,
            State::Invalid => &mut self.invalid,
            State::Skipped => &mut self.skipped,
            State::InDoubt => &mut self.in_doubt,
        }
    }
}
