//! What a pipeline tells of the data that it was fed, kept in order until somebody looks.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;

use cairn_content::pipeline::{Run, RunSink};

/// What became of data, in order.
pub(crate) enum Heard {
    Run(Run),
    End,
}

/// What was heard and not looked at yet.
pub(crate) type HeardQueue = Rc<RefCell<VecDeque<Heard>>>;

/// Hears it.
pub(crate) struct Sink(pub HeardQueue);

impl RunSink for Sink {
    fn run(&mut self, run: Run) {
        self.0.borrow_mut().push_back(Heard::Run(run));
    }

    fn end_of_file(&mut self) {
        self.0.borrow_mut().push_back(Heard::End);
    }
}
