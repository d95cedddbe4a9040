/// The rows of an answer, as PostgreSQL prints them; nil is NULL.
public struct Rows: Sendable, RandomAccessCollection {
  public let columns: [String]
  private let values: [String?]
  private let height: Int

  init(columns: [String], height: Int, values: [String?]) {
    precondition(values.count == columns.count * height)
    self.columns = columns
    self.values = values
    self.height = height
  }

  static let none = Rows(columns: [], height: 0, values: [])

  public var startIndex: Int { 0 }
  public var endIndex: Int { height }

  public subscript(row: Int) -> Row {
    Row(columns: columns, values: values[row * columns.count..<(row + 1) * columns.count])
  }

  public struct Row: Sendable {
    let columns: [String]
    let values: ArraySlice<String?>

    /// The value of the column at `position`, which counts from 0 and must exist.
    public subscript(position: Int) -> String? { values[values.startIndex + position] }

    /// The value of the column called `name`; nil also if there is no such column.
    public subscript(name: String) -> String? {
      columns.firstIndex(of: name).flatMap { values[values.startIndex + $0] }
    }

    /// Whether the column called `name` holds boolean true.
    public func isTrue(_ name: String) -> Bool { self[name] == "t" }

    public func integer(_ name: String) -> Int64? { self[name].flatMap { Int64($0) } }
  }
}
