//! Small programs that use fleet as a library; see the `[[example]]`s beside this file.
