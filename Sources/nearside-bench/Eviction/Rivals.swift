/// Keys by the order in which they came, each linked with its neighbours; keys are numbers below a bound.
struct KeyOrder {
  private var newer: [Int32]
  private var older: [Int32]
  private var newest: Int32 = -1
  private(set) var oldest: Int32 = -1
  private(set) var count = 0

  init(keys: Int) {
    newer = [Int32](repeating: -1, count: keys)
    older = newer
  }

  mutating func append(_ key: Int32) {
    older[Int(key)] = newest
    newer[Int(key)] = -1
    if newest >= 0 { newer[Int(newest)] = key } else { oldest = key }
    newest = key
    count += 1
  }

  mutating func remove(_ key: Int32) {
    let (after, before) = (newer[Int(key)], older[Int(key)])
    if after >= 0 { older[Int(after)] = before } else { newest = before }
    if before >= 0 { newer[Int(before)] = after } else { oldest = after }
    count -= 1
  }
}

/// The least recently used goes.
struct LRU {
  private let capacity: Int
  private var order: KeyOrder
  private var holds: [Bool]

  init(capacity: Int, keys: Int) {
    self.capacity = capacity
    order = KeyOrder(keys: keys)
    holds = [Bool](repeating: false, count: keys)
  }

  /// Whether the key was there; from now on it is.
  mutating func access(_ key: Int32) -> Bool {
    let isHit = holds[Int(key)]
    if isHit {
      order.remove(key)
    } else {
      if order.count == capacity {
        holds[Int(order.oldest)] = false
        order.remove(order.oldest)
      }
      holds[Int(key)] = true
    }
    order.append(key)
    return isHit
  }
}

/// A new key comes into a window of 1 %; what leaves that takes the place of the main part's next victim only if it
/// was asked for more often. The main part has a fifth on probation.
/// Source: Einziger, Friedman and Manes, "TinyLFU: A Highly Efficient Cache Admission Policy", 2017.
struct WTinyLFU {
  private enum Place: UInt8 { case none, window, probation, protected }

  private let mostWindow: Int
  private let mostMain: Int
  private let mostProtected: Int
  private var window: KeyOrder
  private var probation: KeyOrder
  private var protected: KeyOrder
  private var places: [Place]
  private var sketch: FrequencySketch

  init(capacity: Int, keys: Int) {
    mostWindow = max(1, capacity / 100)
    mostMain = capacity - mostWindow
    mostProtected = mostMain * 4 / 5
    window = KeyOrder(keys: keys)
    probation = window
    protected = window
    places = [Place](repeating: .none, count: keys)
    sketch = FrequencySketch(capacity: capacity)
  }

  /// Whether the key was there.
  mutating func access(_ key: Int32) -> Bool {
    sketch.count(key)
    switch places[Int(key)] {
    case .window:
      window.remove(key)
      window.append(key)
    case .protected:
      protected.remove(key)
      protected.append(key)
    case .probation:
      probation.remove(key)
      protected.append(key)
      places[Int(key)] = .protected
      if protected.count > mostProtected {
        let back = protected.oldest
        protected.remove(back)
        probation.append(back)
        places[Int(back)] = .probation
      }
    case .none:
      window.append(key)
      places[Int(key)] = .window
      if window.count > mostWindow { admit() }
      return false
    }
    return true
  }

  /// What is oldest in the window asks to be let into the main part.
  private mutating func admit() {
    let candidate = window.oldest
    window.remove(candidate)
    if probation.count + protected.count >= mostMain {
      let victim = probation.oldest >= 0 ? probation.oldest : protected.oldest
      guard sketch.frequency(of: candidate) > sketch.frequency(of: victim) else {
        places[Int(candidate)] = .none
        return
      }
      if places[Int(victim)] == .probation { probation.remove(victim) } else { protected.remove(victim) }
      places[Int(victim)] = .none
    }
    probation.append(candidate)
    places[Int(candidate)] = .probation
  }
}

/// About how often a key was asked for lately: four rows of small counters, halved from time to time.
private struct FrequencySketch {
  private let mask: UInt64
  private let period: Int
  private var counters: [UInt8]
  private var additions = 0

  init(capacity: Int) {
    var width = 1024
    while width < capacity { width *= 2 }
    mask = UInt64(width - 1)
    period = 10 * capacity
    counters = [UInt8](repeating: 0, count: 4 * width)
  }

  mutating func count(_ key: Int32) {
    for row in 0..<4 {
      let place = place(of: key, row)
      if counters[place] < 15 { counters[place] += 1 }
    }
    additions += 1
    guard additions == period else { return }
    for place in counters.indices { counters[place] /= 2 }
    additions /= 2
  }

  func frequency(of key: Int32) -> UInt8 { (0..<4).reduce(15) { min($0, counters[place(of: key, $1)]) } }

  private func place(of key: Int32, _ row: Int) -> Int {
    var random = SplitMix(state: UInt64(UInt32(bitPattern: key)) << 2 | UInt64(row))
    return row * Int(mask + 1) + Int(random.next() & mask)
  }
}
