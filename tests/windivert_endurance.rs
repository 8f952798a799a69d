//! What is left behind by 200,000 packets, half of them damaged?
//!
//! A binary of its own with one test: memory and handles are the whole process's.

#![cfg(windows)]
#![expect(clippy::expect_used, reason = "a test that cannot go on says what it expected")]

#[path = "support/crowd.rs"]
#[expect(dead_code, reason = "others use more of it")]
mod crowd;
#[path = "windivert/fake.rs"]
#[expect(dead_code, reason = "other tests use more of it")]
mod fake;
#[path = "windivert/load.rs"]
#[expect(dead_code, reason = "the bench uses more of it")]
mod load;

use crowd::LENGTH;
use fake::Packets;
use load::{Load, flags, packet, protocol};
use sessionip::engine::Direction;
use std::os::windows::io::AsRawHandle;
use windows_sys::Win32::System::ProcessStatus::{
    GetProcessMemoryInfo, PROCESS_MEMORY_COUNTERS, PROCESS_MEMORY_COUNTERS_EX,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};

const FLOWS: u32 = 500;
const PACKETS: u64 = 100_000;

#[test]
fn a_hundred_thousand_packets_half_of_them_damaged_leave_nothing_behind() {
    let mut load = Load::new(FLOWS);
    load.open_flows();
    let mut random = Random(0x9e37_79b9_7f4a_7c15);
    let mut after = [(0, 0); 2];
    for after in &mut after {
        let packets = half_damaged(&mut random);
        let rewritten = load.pass(&packets, PACKETS);
        drop(packets);
        println!("{rewritten} of {PACKETS} packets reached translation");
        assert!(rewritten >= PACKETS * 3 / 10, "{rewritten} of {PACKETS} reached translation");
        *after = usage();
    }
    let [(memory_before, handles_before), (memory, handles)] = after;
    assert!(memory_before > 0 && handles_before > 0, "nothing was measured");
    println!("memory {memory_before} then {memory} bytes, handles {handles_before} then {handles}");
    let near = |before: u64, now: u64| now <= before + before / 20;
    assert!(near(memory_before, memory), "{memory_before} bytes, then {memory}");
    assert!(near(handles_before, handles), "{handles_before} handles, then {handles}");
}

/// Packets of live flows, every second one with some bytes changed.
fn half_damaged(random: &mut Random) -> Packets {
    let mut packets = Packets::default();
    for at in 0..PACKETS {
        let number = random.below(FLOWS);
        let direction = if random.below(2) == 0 { Direction::Out } else { Direction::In };
        let mut packet = packet(protocol(number), number, direction, false);
        let flags = flags(number, direction);
        if at % 2 == 0 {
            packets.add(&packet, flags);
            continue;
        }
        for _ in 0..=random.below(4) {
            let place = random.below(LENGTH as u32) as usize;
            packet[place] = random.below(256) as u8;
        }
        // The driver looks at the first header before it diverts; what still lies
        // about its length comes first and last in a call.
        let honest = packet[..4] == [0x45, packet[1], 0, LENGTH as u8];
        if honest {
            packets.add(&packet, flags);
        } else {
            packets.add_alone(&packet, flags);
        }
    }
    packets
}

/// Private bytes and handles of this process.
#[expect(unsafe_code, reason = "nothing safe says it")]
fn usage() -> (u64, u64) {
    let size = size_of::<PROCESS_MEMORY_COUNTERS_EX>() as u32;
    let mut memory = PROCESS_MEMORY_COUNTERS_EX { cb: size, ..Default::default() };
    let mut handles = 0;
    let place = (&raw mut memory).cast::<PROCESS_MEMORY_COUNTERS>();
    // SAFETY: the places to write to are ours and as large as is said.
    let read = unsafe {
        let process = GetCurrentProcess();
        GetProcessMemoryInfo(process, place, size) != 0
            && GetProcessHandleCount(process, &raw mut handles) != 0
    };
    assert!(read, "{}", std::io::Error::last_os_error());
    // Wine knows of the working set only, and of no number of handles. There as on
    // Windows a new handle takes the lowest free number, which says as much.
    let bytes = memory.PrivateUsage.max(memory.WorkingSetSize) as u64;
    let newest = std::fs::File::open(std::env::current_exe().expect("a program"));
    let newest = newest.expect("it can be read").as_raw_handle().addr() / 4;
    (bytes, u64::from(handles).max(newest as u64))
}

/// Xorshift: the same damage in every run.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 32) as u32 % limit
    }
}
