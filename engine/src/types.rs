//! Newtypes shared by the modules of the engine.
