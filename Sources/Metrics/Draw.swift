/// Draws one of a number of events on average, at irregular distances, so that no rhythm of a client is missed or met
/// each time.
public struct Draw: Sendable {
  /// How many events still go by before one is drawn.
  @usableFromInline
  var left: Int
  private let period: Int
  private var state: UInt64

  /// - Parameters:
  ///   - period: one in so many is drawn.
  ///   - seed: any number.
  public init(period: Int, seed: UInt64) {
    self.period = max(1, period)
    state = seed | 1
    left = 0
    renew()
  }

  /// So many events have happened; which of them was drawn, counted from 0. nil: none.
  @inlinable @inline(__always)
  public mutating func draw(of count: Int) -> Int? {
    left -= count
    guard left < 0 else { return nil }
    return hit(count)
  }

  /// Of more than one that would be drawn the first counts.
  @usableFromInline
  mutating func hit(_ count: Int) -> Int {
    let drawn = left + count
    renew()
    return drawn
  }

  /// From 0 to twice the period less 2, each as likely: one less than the period on average. Source: Marsaglia,
  /// "Xorshift RNGs", 2003.
  private mutating func renew() {
    state ^= state << 13
    state ^= state >> 7
    state ^= state << 17
    left = Int(state >> 33) % (2 * period - 1)
  }
}
