import Configuration
import Invalidation
import NearCache
import Policies

/// Loads of one template that begin in one poll run as one statement, if its `load` has `many`: what an MGET
/// misses is one round.
extension EventLoop {
  /// Whether a load may run with others. A key that no row can have as it is spelt is not told by the rows.
  private static func mayJoin(_ job: LoadJob) -> Bool { job.rule.many != nil && !job.isAlone }

  /// Sends the statements of the loads that have begun.
  mutating func submitLoads() {
    guard !loading.begun.isEmpty else { return }
    let begun = loading.begun
    loading.begun = []
    var batches: [Int: [LoadJob]] = [:]
    for job in begun {
      guard Self.mayJoin(job) else {
        submit(job)
        continue
      }
      batches[job.rule.statement, default: []].append(job)
    }
    for jobs in batches.values {
      var rest = jobs[...]
      while let first = rest.first {
        let part = rest.prefix(Loading.mostAtOnce)
        rest = rest.dropFirst(part.count)
        if part.count == 1 { submit(first) } else { submit(Array(part), first.rule) }
      }
    }
  }

  private mutating func submit(_ job: LoadJob) {
    loading.table.sent([job.load])
    counters.loadStatements += 1
    let id = loading.newJob(.load(job))
    sql?.submit(SQLJob(id: id, statement: job.rule.statement, parameters: job.values))
  }

  private mutating func submit(_ jobs: [LoadJob], _ rule: LoadRule) {
    guard let many = rule.many else { return }
    loading.table.sent(jobs.map(\.load))
    counters.loadStatements += 1
    let parameters = many.order.map { index in TextArray.text(of: jobs.map { $0.values[index] ?? [] }) }
    let id = loading.newJob(.loads(jobs))
    sql?.submit(SQLJob(id: id, statement: many.statement, parameters: parameters))
  }

  /// A statement for several keys has ended: each has its own outcome.
  mutating func loaded(_ jobs: [LoadJob], _ outcome: SQLOutcome) {
    guard let rule = jobs.first?.rule, let many = rule.many else { return }
    var unclear: [UInt64] = []
    defer { loading.table.repeatAlone(unclear) }
    let types = outcome.types.map { TextArray.elements(of: $0) }
    switch outcome.result {
    case .failure(let failure) where failure.kind != .statement:
      for job in jobs { loaded(job, outcome) }
    case .success(let rows):
      guard let found = many.values(rows, names: rule.boundNames), types.count == many.order.count else {
        unclear = jobs.map(\.load)
        return
      }
      var others = Set(found.keys)
      for job in jobs { others.remove(many.order.map { job.values[$0] ?? [] }) }
      for job in jobs {
        let values = many.order.map { job.values[$0] ?? [] }
        // Only the printed spelling of a value is found again among the rows; and a row of none of these keys may
        // be one of them in other letters.
        guard zip(values, types).allSatisfy({ KeyParameters.isPrinted($0, type: $1) }),
          found[values] != nil || others.isEmpty
        else {
          unclear.append(job.load)
          continue
        }
        let value = found[values] ?? nil
        let row = SQLRows(columns: ["value"], height: value == nil ? 0 : 1, values: value.map { [$0] } ?? [])
        var single = outcome
        single.result = .success(row)
        single.types = many.types(types)
        loaded(job, single)
      }
    // One key's value may be at fault, and the others must not suffer for it.
    case .failure: unclear = jobs.map(\.load)
    }
  }
}

/// The statement that loads several keys of a template at once.
struct ManyRule: Sendable {
  let statement: Int
  /// For each of its parameters, which are arrays, its place among the parameters of the statement for one key.
  let order: [Int]

  /// The types of the parameters of the statement for one key, from those of this one.
  func types(_ types: [UInt32]) -> [UInt32] {
    var single = types
    for (index, place) in order.enumerated() { single[place] = types[index] }
    return single
  }

  /// The value of each row by the values of the parameters; nil: the rows do not tell whose they are, or there are
  /// several of one key. A value of nil is NULL. `names`: of the parameters of the statement for one key.
  func values(_ rows: SQLRows, names: [String]) -> [[[UInt8]]: [UInt8]?]? {
    var places: [Int] = []
    for index in order {
      guard let place = rows.columns.firstIndex(of: names[index]) else { return nil }
      places.append(place)
    }
    let others = rows.columns.indices.filter { !places.contains($0) }
    guard others.count == 1 else { return nil }
    var found: [[[UInt8]]: [UInt8]?] = [:]
    for row in 0..<rows.height {
      let start = row * rows.columns.count
      let key = places.compactMap { rows.values[start + $0] }
      guard key.count == places.count, found.updateValue(rows.values[start + others[0]], forKey: key) == nil
      else { return nil }
    }
    return found
  }
}

/// Arrays as PostgreSQL reads them.
enum TextArray {
  /// Each element in quotes, which every type takes.
  /// Source: PostgreSQL documentation, 8.15.6 "Array Input and Output Syntax".
  static func text(of elements: [[UInt8]]) -> [UInt8] {
    var text = [UInt8(ascii: "{")]
    for element in elements {
      if text.count > 1 { text.append(UInt8(ascii: ",")) }
      text.append(UInt8(ascii: "\""))
      for byte in element {
        if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") { text.append(UInt8(ascii: "\\")) }
        text.append(byte)
      }
      text.append(UInt8(ascii: "\""))
    }
    return text + [UInt8(ascii: "}")]
  }

  /// The type of an array's elements, if one spelling of its values is known; otherwise 0.
  /// Source: PostgreSQL source, src/include/catalog/pg_type.dat.
  static func elements(of array: UInt32) -> UInt32 {
    switch array {
    case 1000: 16
    case 1005: 21
    case 1007: 23
    case 1009: 25
    case 1015: 1043
    case 1016: 20
    case 1182: 1082
    case 2951: 2950
    default: 0
    }
  }
}
