import CLinux

/// Which entries were found since SIEVE's hand passed them: a bit for every two units of the arena, which is one for each
/// entry, since the smallest has three.
///
/// They lie apart from the entries so that readers on other threads write nowhere else. A mark may come late, for an
/// entry that has left, and where two threads set marks of one byte at once one of them may be lost: then an entry leaves
/// sooner or later than SIEVE meant, and no more than that. So no operation needs the bus for itself.
struct Marks {
  private let bytes: UnsafeMutablePointer<UInt8>

  init(_ memory: UnsafeMutableRawPointer) { bytes = memory.assumingMemoryBound(to: UInt8.self) }

  /// How many bytes an arena of so many needs.
  static func count(forArena bytes: Int) -> Int { bytes / (2 * Arena.unit * 8) + 1 }

  private static func bit(_ entry: UInt32) -> UInt8 { 1 << UInt8(truncatingIfNeeded: entry >> 1 & 7) }

  private func byte(_ entry: UInt32) -> UnsafeMutablePointer<UInt8> {
    bytes + Int(truncatingIfNeeded: entry >> 4)
  }

  /// A hit on a hot entry finds the mark set, and so leaves the cache line clean.
  func set(_ entry: UInt32) {
    let byte = byte(entry)
    let marks = clinux_load8(byte)
    if marks & Self.bit(entry) == 0 { clinux_store8(byte, marks | Self.bit(entry)) }
  }

  func clear(_ entry: UInt32) {
    let byte = byte(entry)
    let marks = clinux_load8(byte)
    if marks & Self.bit(entry) != 0 { clinux_store8(byte, marks & ~Self.bit(entry)) }
  }

  func isSet(_ entry: UInt32) -> Bool { clinux_load8(byte(entry)) & Self.bit(entry) != 0 }

  func prefetch(_ entry: UInt32) { clinux_prefetch(byte(entry)) }
}
