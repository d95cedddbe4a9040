/// How many keys the next step of clearing looks at: as many as Redis should be done with in a millisecond, by what
/// the last step took, so that other clients hardly notice.
///
/// Redis's own clock says how long a step took: TIME before the script and behind it, in one pipeline. The round trip
/// would also count the network and other clients, and in a script TIME stands still since Redis 7.2.
struct StepSize {
  /// What a step should take, in microseconds.
  static let aim: UInt64 = 1000
  static let bounds = 16...500

  /// COUNT of the next SCAN.
  private(set) var count = 100

  /// A step has taken so many microseconds; a change of the server's clock may make it anything.
  mutating func took(_ microseconds: UInt64) {
    let ideal = UInt64(count) * Self.aim / max(microseconds, 1)
    // A step that found little to do says little of the next one.
    count = Int(min(ideal, UInt64(count) * 2)).clamped(to: Self.bounds)
  }
}

extension Int {
  fileprivate func clamped(to bounds: ClosedRange<Int>) -> Int {
    Swift.min(Swift.max(self, bounds.lowerBound), bounds.upperBound)
  }
}
