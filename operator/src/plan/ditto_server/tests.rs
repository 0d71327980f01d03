//! Tables: objects in, steps and conditions out.
