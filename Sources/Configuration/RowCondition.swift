/// The condition of a table's rule (`when`): which changes of its rows clear keys, in a small part of SQL as in
/// `changed(price, stock) and new.status <> 'draft'`. `BoundCondition` gives it its meaning.
public struct RowCondition: Sendable, Hashable {
  /// Which row a column is read from.
  public enum Image: String, Sendable, Hashable {
    case new, old
    /// A bare name: the condition holds if it holds for either row.
    case either
  }

  public struct Column: Sendable, Hashable {
    public var image: Image
    /// As the catalogue has it.
    public var name: String
    public var place: SourcePlace
  }

  public enum Literal: Sendable, Hashable {
    /// Plain decimal digits with at most one minus and one point, without zeros that change nothing.
    case number(String)
    case text(String)
    case boolean(Bool)
  }

  public enum Operand: Sendable, Hashable {
    case column(Column)
    case literal(Literal, place: SourcePlace)

    public var place: SourcePlace {
      switch self {
      case .column(let column): column.place
      case .literal(_, let place): place
      }
    }
  }

  public enum Comparison: String, Sendable, Hashable, CaseIterable {
    case equal = "="
    case notEqual = "<>"
    case less = "<"
    case lessOrEqual = "<="
    case greater = ">"
    case greaterOrEqual = ">="
    case distinct = "is distinct from"
    case notDistinct = "is not distinct from"

    /// Whether it asks which of the two comes first.
    public var isOrder: Bool {
      switch self {
      case .less, .lessOrEqual, .greater, .greaterOrEqual: true
      case .equal, .notEqual, .distinct, .notDistinct: false
      }
    }
  }

  /// `in`, `between` and the forms with `not` in them are written with these.
  public indirect enum Expression: Sendable, Hashable {
    case all([Expression])
    case any([Expression])
    case not(Expression)
    /// At least one side is a column. `place` is the operator's.
    case compare(Operand, Comparison, Operand, place: SourcePlace)
    /// The pattern is well-formed, with `\` as its escape.
    case like(Column, pattern: String, place: SourcePlace)
    case isNull(Column)
    /// Whether one of the columns has another value; their image is `either`.
    case changed([Column])
    /// A boolean column by itself.
    case holds(Column)
  }

  public var root: Expression
  public var place: SourcePlace

  public init(root: Expression, place: SourcePlace) {
    self.root = root
    self.place = place
  }

  /// Every column that is named, as often as it is.
  public var columns: [Column] { root.columns }

  /// The same for every way of writing the same condition: spaces, case, and needless parentheses do not count.
  public var canonical: String { root.canonical }
}

extension RowCondition.Expression {
  var columns: [RowCondition.Column] {
    switch self {
    case .all(let parts), .any(let parts): parts.flatMap(\.columns)
    case .not(let part): part.columns
    case .compare(let left, _, let right, _):
      [left, right].compactMap { if case .column(let column) = $0 { column } else { nil } }
    case .like(let column, _, _), .isNull(let column), .holds(let column): [column]
    case .changed(let columns): columns
    }
  }

  var canonical: String {
    switch self {
    case .all(let parts): "all(" + parts.map(\.canonical).joined(separator: ",") + ")"
    case .any(let parts): "any(" + parts.map(\.canonical).joined(separator: ",") + ")"
    case .not(let part): "not(" + part.canonical + ")"
    case .compare(let left, let comparison, let right, _):
      "(" + left.canonical + comparison.rawValue + right.canonical + ")"
    case .like(let column, let pattern, _): "like(" + column.canonical + "," + Self.counted(pattern) + ")"
    case .isNull(let column): "null(" + column.canonical + ")"
    case .changed(let columns):
      "changed(" + Set(columns.map(\.canonical)).sorted().joined(separator: ",") + ")"
    case .holds(let column): "holds(" + column.canonical + ")"
    }
  }

  fileprivate static func counted(_ text: String) -> String { "\(text.utf8.count):\(text)" }
}

extension RowCondition.Column {
  fileprivate var canonical: String { image.rawValue + "." + RowCondition.Expression.counted(name) }
}

extension RowCondition.Operand {
  fileprivate var canonical: String {
    switch self {
    case .column(let column): column.canonical
    case .literal(.number(let number), _): number
    case .literal(.boolean(let value), _): String(value)
    case .literal(.text(let text), _): "'" + RowCondition.Expression.counted(text)
    }
  }
}
