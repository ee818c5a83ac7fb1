//! A target with faults, to see that coverage guides the fuzzer and that the bound on memory holds.

use crate::input::Input;

/// Behind four letters, which chance alone finds once in four billion tries, allocates what the input says.
pub(crate) fn run(octets: &[u8]) {
    let mut letters = octets.iter();
    if letters.next() == Some(&b'F')
        && letters.next() == Some(&b'u')
        && letters.next() == Some(&b'z')
        && letters.next() == Some(&b'z')
    {
        let len = Input::new(letters.as_slice()).u32() as usize;
        let trusting: Vec<u8> = Vec::with_capacity(len);
        assert!(trusting.capacity() >= len);
    }
}
