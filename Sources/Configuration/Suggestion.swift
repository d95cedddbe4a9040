/// The candidate that was probably meant by `word`, or nil if none is near: at most a third of its letters
/// may be wrong, and at least one.
func nearest(to word: String, among candidates: [String]) -> String? {
  let letters = Array(word.lowercased().unicodeScalars)
  guard !letters.isEmpty, letters.count <= 64 else { return nil }
  var best: (candidate: String, distance: Int)?
  for candidate in candidates {
    let other = Array(candidate.lowercased().unicodeScalars)
    let distance = editDistance(letters, other)
    let allowed = max(1, max(letters.count, other.count) / 3)
    // A word of one or two letters is near to everything.
    guard distance <= allowed, distance < min(letters.count, other.count) else { continue }
    if best.map({ distance < $0.distance }) ?? true { best = (candidate, distance) }
  }
  return best?.candidate
}

/// How many insertions, deletions, replacements and swaps of neighbours lead from one word to the other
/// (the "optimal string alignment" form of Damerau's distance).
private func editDistance(_ a: [Unicode.Scalar], _ b: [Unicode.Scalar]) -> Int {
  var before: [Int] = []
  var row = Array(0...b.count)
  for i in a.indices {
    var next = [i + 1] + Array(repeating: 0, count: b.count)
    for j in b.indices {
      next[j + 1] = min(next[j] + 1, row[j + 1] + 1, row[j] + (a[i] == b[j] ? 0 : 1))
      if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
        next[j + 1] = min(next[j + 1], before[j - 1] + 1)
      }
    }
    before = row
    row = next
  }
  return row[b.count]
}
