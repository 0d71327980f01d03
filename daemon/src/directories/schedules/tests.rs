//! Schedules by a clock that the tests turn.
