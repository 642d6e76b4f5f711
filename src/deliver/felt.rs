//! What the end of an attempt says about how much the far side takes.
//!
//! Pure, and apart from what it means for the record: a refusal of one record says that the far side keeps up.

use http::StatusCode;

use super::judge::Meaning;
use crate::model::Reply;

/// The end of an attempt, as the schedule learns from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Felt {
    /// It was answered.
    Answered,
    /// There were too many in a time.
    Throttled,
    /// The far side is not able to, or did not answer.
    Overloaded,
    /// It says nothing.
    Nothing,
}

impl Felt {
    /// What a reply says; `meaning` is what the endpoint's rules make of it.
    #[must_use]
    pub fn of(reply: &Reply, meaning: Option<&Meaning>) -> Self {
        let arrived = match reply {
            Reply::Arrived(arrived) => arrived,
            Reply::Lost(lost) => {
                return match lost.class {
                    "connect" | "timeout" | "reset" | "refused-stream" => Self::Overloaded,
                    _ => Self::Nothing,
                };
            }
        };
        match (arrived.status, meaning) {
            (
                StatusCode::REQUEST_TIMEOUT
                | StatusCode::BAD_GATEWAY
                | StatusCode::SERVICE_UNAVAILABLE
                | StatusCode::GATEWAY_TIMEOUT,
                _,
            ) => Self::Overloaded,
            // The last by a rule, as some APIs tell of their limits in words of their own.
            (StatusCode::TOO_MANY_REQUESTS, _) | (_, Some(Meaning::NotNow { asked: Some(_) })) => {
                Self::Throttled
            }
            (_, Some(Meaning::NotNow { asked: None } | Meaning::Unknown | Meaning::Stop)) => Self::Nothing,
            (status, _) if status.is_server_error() => Self::Nothing,
            _ => Self::Answered,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use http::HeaderMap;

    use super::*;
    use crate::model::{Arrived, Lost};

    fn arrived(status: u16) -> Reply {
        let (status, headers) = (StatusCode::from_u16(status).unwrap(), HeaderMap::new());
        Reply::Arrived(Arrived { status, headers, body: Bytes::new(), complete: true })
    }

    #[test]
    fn a_refused_record_is_an_answer_and_a_limit_is_not() {
        let asks = Meaning::NotNow { asked: Some(Duration::from_secs(1)) };
        for (status, meaning, felt) in [
            (200, Some(Meaning::Acted), Felt::Answered),
            (404, Some(Meaning::Refused { settles_unknown: false }), Felt::Answered),
            (429, Some(Meaning::NotNow { asked: None }), Felt::Throttled),
            (429, None, Felt::Throttled),
            (503, Some(asks), Felt::Overloaded),
            (504, Some(Meaning::Unknown), Felt::Overloaded),
            (403, Some(asks), Felt::Throttled),
            (409, Some(Meaning::NotNow { asked: None }), Felt::Nothing),
            (500, Some(Meaning::Unknown), Felt::Nothing),
            (500, None, Felt::Nothing),
            (401, Some(Meaning::Stop), Felt::Nothing),
        ] {
            assert_eq!(Felt::of(&arrived(status), meaning.as_ref()), felt, "{status} {meaning:?}");
        }
    }

    #[test]
    fn no_reply_is_an_overload_only_where_the_far_side_was_asked() {
        for (class, felt) in [
            ("timeout", Felt::Overloaded),
            ("connect", Felt::Overloaded),
            ("dns", Felt::Nothing),
            (Lost::TOKEN_UNAVAILABLE, Felt::Nothing),
            (Lost::FILE_CHANGED, Felt::Nothing),
        ] {
            let lost = Lost { certain: true, class, message: String::new(), asked: None };
            assert_eq!(Felt::of(&Reply::Lost(lost), None), felt, "{class}");
        }
    }
}
