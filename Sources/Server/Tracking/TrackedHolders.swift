/// Which clients have read one key, and the reply in which each was given it.
///
/// Nearly every key has one holder, so the first costs no array. A hot key has thousands, each of which reads it again
/// and again: beyond a few they are found by their places.
struct TrackedHolders {
  typealias Client = TrackingTable.Client
  typealias Holder = TrackingTable.Holder

  /// Up to so many others are looked for one by one.
  private static let few = 16

  private(set) var first: Holder
  private var others: [Holder] = []
  /// Where each of the others stands; empty while they are few.
  private var places: [Client: Int] = [:]

  init(_ first: Holder) { self.first = first }

  /// At least one.
  var count: Int { 1 + others.count }

  func forEach(_ body: (Holder) -> Void) {
    body(first)
    others.forEach(body)
  }

  /// Whether the client has not been a holder before.
  mutating func set(_ holder: Holder) -> Bool {
    if first.client == holder.client {
      first = holder
      return false
    }
    if let place = place(of: holder.client) {
      others[place] = holder
      return false
    }
    others.append(holder)
    if !places.isEmpty {
      places[holder.client] = others.count - 1
    } else if others.count > Self.few {
      places.reserveCapacity(2 * others.count)
      for (place, other) in others.enumerated() { places[other.client] = place }
    }
    return true
  }

  enum Left: Equatable {
    case unknown
    case left
    /// It is the only one. It stays, since there is no key without a holder: the key goes instead.
    case last
  }

  mutating func leave(_ client: Client) -> Left {
    if first.client == client {
      guard let last = others.popLast() else { return .last }
      first = last
      forget(last.client)
      return .left
    }
    guard let place = place(of: client) else { return .unknown }
    let last = others.removeLast()
    if place < others.count {
      others[place] = last
      if !places.isEmpty { places[last.client] = place }
    }
    forget(client)
    return .left
  }

  private func place(of client: Client) -> Int? {
    places.isEmpty ? others.firstIndex { $0.client == client } : places[client]
  }

  /// Half of the bound is where the places go, so that a client that comes and goes does not make them each time.
  private mutating func forget(_ client: Client) {
    guard !places.isEmpty else { return }
    places[client] = nil
    if others.count <= Self.few / 2 { places = [:] }
  }
}
