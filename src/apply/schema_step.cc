#include "apply/schema_step.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>

#include "batch/table_batcher.h"

namespace etl {
namespace {

struct Shape {
  std::string name;
  uint32_t type_oid = 0;
  int32_t typmod = -1;
  friend bool operator==(const Shape&, const Shape&) = default;
};

Shape ShapeOf(const RelationColumn& column) {
  return {std::string(column.name), column.type_oid, column.typmod};
}
Shape ShapeOf(const WireColumn& column) { return {column.name, column.type_oid, column.typmod}; }
Shape ShapeOf(const AttributeFacts& column) {
  return {column.name, column.type_oid, column.typmod};
}

std::string_view SchemaOrSystem(std::string_view name) {
  return name.empty() ? "pg_catalog" : name;
}

// Finds the attribute number of each column of a Relation message (rule 7.1): the only increasing
// assignment in which each column equals the previous version's or the catalog's entry of its
// number, and columns live in both are present.
class AttnumSearch {
 public:
  AttnumSearch(const DecodedMessage& relation, const TableSchema& from, const TableFacts* facts) {
    for (const RelationColumn& column : relation.columns) wanted_.push_back(ShapeOf(column));
    for (const WireColumn& column : from.wire) candidates_[column.attnum].before = ShapeOf(column);
    if (facts != nullptr) {
      for (const AttributeFacts& column : facts->columns) {
        if (column.published) candidates_[column.attnum].now = ShapeOf(column);
      }
    }
    for (const auto& [attnum, candidate] : candidates_) order_.push_back(attnum);
  }

  std::optional<std::vector<int16_t>> Unique() {
    Search(0, 0);
    if (found_ != 1) return std::nullopt;
    return result_;
  }

 private:
  struct Candidate {
    std::optional<Shape> before;
    std::optional<Shape> now;
  };

  void Search(size_t column, size_t from) {
    if (found_ > 1) return;
    if (column == wanted_.size()) {
      for (size_t i = from; i < order_.size(); ++i) {
        if (MustBePresent(order_[i])) return;
      }
      ++found_;
      result_ = chosen_;
      return;
    }
    for (size_t i = from; i < order_.size(); ++i) {
      const Candidate& candidate = candidates_[order_[i]];
      if (candidate.before == wanted_[column] || candidate.now == wanted_[column]) {
        chosen_.push_back(order_[i]);
        Search(column + 1, i + 1);
        chosen_.pop_back();
      }
      if (MustBePresent(order_[i])) return;
    }
  }
  bool MustBePresent(int16_t attnum) {
    const Candidate& candidate = candidates_[attnum];
    return candidate.before.has_value() && candidate.now.has_value();
  }

  std::vector<Shape> wanted_;
  std::map<int16_t, Candidate> candidates_;
  std::vector<int16_t> order_;
  std::vector<int16_t> chosen_;
  std::vector<int16_t> result_;
  int found_ = 0;
};

// The pairs of types whose stored values stay as they are (rule 7.4): text that may get longer, the
// same numeric scale with more digits, the same kind with another type modifier.
bool WidensInPlace(const ColumnType& from, const ColumnType& to) {
  if (from.kind != to.kind) return false;
  if (from.kind == TypeKind::kDecimal)
    return from.scale == to.scale && to.precision >= from.precision;
  if (from.oid != to.oid) {
    constexpr uint32_t kTextOid = 25;
    constexpr uint32_t kVarcharOid = 1043;
    return from.kind == TypeKind::kText && (from.oid == kTextOid || from.oid == kVarcharOid) &&
           (to.oid == kTextOid || to.oid == kVarcharOid);
  }
  if (from.kind == TypeKind::kNumericText || from.kind == TypeKind::kList ||
      from.kind == TypeKind::kStruct) {
    return from.typmod == to.typmod;
  }
  return from.typmod == to.typmod || to.typmod == -1 ||
         (from.typmod != -1 && to.typmod > from.typmod);
}

// The key as a set of attribute numbers: the order of its columns does not matter to anyone.
std::vector<int16_t> KeyOf(const TableSchema& schema) {
  std::vector<int16_t> attnums;
  for (int index : schema.key) attnums.push_back(schema.columns[static_cast<size_t>(index)].attnum);
  std::sort(attnums.begin(), attnums.end());
  return attnums;
}

// Whether a column that is gone may have been dropped and added again, with rows in between, and
// only then renamed: while no column that stays stands behind it, the Relation message of that time
// was identical, and its rows cannot be told apart (rule 7.3).
bool MayHaveBeenReplaced(const TableSchema& from, const TableSchema& to) {
  int16_t last_kept = 0;
  for (const Column& column : to.columns) {
    if (from.ColumnByAttnum(column.attnum) >= 0) last_kept = std::max(last_kept, column.attnum);
  }
  for (const Column& gone : from.columns) {
    if (to.ColumnByAttnum(gone.attnum) >= 0 || gone.attnum < last_kept) continue;
    for (const Column& added : to.columns) {
      if (from.ColumnByAttnum(added.attnum) < 0 && added.type->kind == gone.type->kind) return true;
    }
  }
  return false;
}

// Whether a column came and went unseen before one that came and stayed. Its name and type are not
// known any more: the Relation message may have shown it in the place of the other (rule 7.1).
bool MayShowAColumnThatWent(const TableSchema& from, const TableSchema& to, const TableFacts& facts,
                            int16_t given) {
  std::set<int16_t> live;
  for (const AttributeFacts& column : facts.columns) live.insert(column.attnum);
  for (const WireColumn& column : from.wire) given = std::max(given, column.attnum);
  for (const WireColumn& added : to.wire) {
    for (int attnum = given + 1; attnum < added.attnum; ++attnum) {
      if (!live.contains(static_cast<int16_t>(attnum))) return true;
    }
  }
  return false;
}

SchemaStep CopyStep(std::string reason) {
  SchemaStep step;
  step.kind = SchemaStep::Kind::kCopy;
  step.reason = std::move(reason);
  return step;
}

bool WasExcluded(const TableSchema& schema, int16_t attnum) {
  return std::any_of(schema.wire.begin(), schema.wire.end(), [&](const WireColumn& column) {
    return column.attnum == attnum && column.output < 0;
  });
}

std::string NoLongerExcluded(const std::string& column) {
  return "column \"" + column + "\" is no longer excluded";
}
std::string HashedOtherwise(const std::string& column, bool hashed) {
  return "column \"" + column + (hashed ? "\" is hashed now" : "\" is no longer hashed");
}

Result<SchemaStep> Compare(const TableSchema& from, TableSchemaPtr to, const TableFacts* facts) {
  SchemaStep step;
  step.to = to;
  bool differs = from.schema != to->schema || from.name != to->name || KeyOf(from) != KeyOf(*to) ||
                 from.identity != to->identity || from.full_images != to->full_images ||
                 from.columns.size() != to->columns.size() || from.wire.size() != to->wire.size();
  for (const Column& column : to->columns) {
    const int old_index = from.ColumnByAttnum(column.attnum);
    if (old_index < 0) {
      differs = true;
      if (WasExcluded(from, column.attnum)) return CopyStep(NoLongerExcluded(column.name));
      if (facts == nullptr) continue;
      for (const AttributeFacts& attribute : facts->columns) {
        if (attribute.attnum != column.attnum || !attribute.has_missing || !attribute.missing_text)
          continue;
        if (attribute.missing_differs)
          return CopyStep("a column was added, and its default differs by partition");
        if (column.hashed) return CopyStep("a hashed column was added with a default");
        ETL_ASSIGN_OR_RETURN(step.fill[column.attnum],
                             ValueFromText(*column.type, *attribute.missing_text));
      }
      continue;
    }
    const Column& old_column = from.columns[static_cast<size_t>(old_index)];
    if (old_column.hashed != column.hashed)
      return CopyStep(HashedOtherwise(column.name, column.hashed));
    if (old_column.name != column.name) differs = true;
    if (old_column.type->oid == column.type->oid &&
        old_column.type->typmod == column.type->typmod &&
        old_column.type->kind == column.type->kind) {
      continue;
    }
    differs = true;
    if (!WidensInPlace(*old_column.type, *column.type)) {
      step.kind = SchemaStep::Kind::kCopy;
      step.reason = "the type of column \"" + column.name + "\" changed from " +
                    old_column.type->name + " to " + column.type->name;
      return step;
    }
  }
  if (MayHaveBeenReplaced(from, *to)) {
    step.kind = SchemaStep::Kind::kCopy;
    step.reason = "its last column was dropped and one like it was added";
    return step;
  }
  for (size_t i = 0; !differs && i < to->wire.size(); ++i) {
    differs = !(ShapeOf(from.wire[i]) == ShapeOf(to->wire[i])) ||
              from.wire[i].attnum != to->wire[i].attnum;
  }
  step.kind = differs ? SchemaStep::Kind::kChange : SchemaStep::Kind::kSame;
  return step;
}

}  // namespace

bool HasRules(const TableSchema& stored) {
  return std::any_of(stored.wire.begin(), stored.wire.end(), [&](const WireColumn& wire) {
    return wire.output < 0 || stored.columns[static_cast<size_t>(wire.output)].hashed;
  });
}

std::string ReasonOfRules(const TableSchema& stored, const ColumnRules& rules) {
  const auto listed = [](const std::vector<std::string>& names, const std::string& name) {
    return std::find(names.begin(), names.end(), name) != names.end();
  };
  for (const WireColumn& wire : stored.wire) {
    if (listed(rules.exclude, wire.name)) continue;
    if (wire.output < 0) return NoLongerExcluded(wire.name);
    const bool hashed = listed(rules.hash, wire.name);
    if (stored.columns[static_cast<size_t>(wire.output)].hashed != hashed)
      return HashedOtherwise(wire.name, hashed);
  }
  return {};
}

bool RelationMatches(const DecodedMessage& relation, const TableSchema& schema) {
  if (SchemaOrSystem(relation.schema) != schema.schema || relation.name != schema.name)
    return false;
  if (relation.columns.size() != schema.wire.size()) return false;
  if ((relation.replica_identity == 'f') != schema.full_images &&
      schema.identity != Identity::kFullRow)
    return false;
  size_t flagged = 0;
  for (size_t i = 0; i < schema.wire.size(); ++i) {
    const RelationColumn& theirs = relation.columns[i];
    const WireColumn& ours = schema.wire[i];
    if (theirs.name != ours.name || theirs.type_oid != ours.type_oid ||
        theirs.typmod != ours.typmod)
      return false;
    if (theirs.key) ++flagged;
    if (relation.replica_identity != 'f' && schema.identity == Identity::kKey) {
      const bool in_key =
          std::find(schema.key.begin(), schema.key.end(), ours.output) != schema.key.end();
      if (ours.output >= 0 && theirs.key != in_key) return false;
    }
  }
  if (relation.replica_identity == 'f')
    return schema.full_images || schema.identity == Identity::kFullRow;
  if (schema.identity == Identity::kFullRow) return false;
  return (flagged == 0) == (schema.identity == Identity::kNone);
}

Result<SchemaStep> StepForRelation(const DecodedMessage& relation, const TableSchema& from,
                                   const TableFacts* facts, const ColumnRules& rules,
                                   int16_t given) {
  const std::optional<std::vector<int16_t>> attnums = AttnumSearch(relation, from, facts).Unique();
  if (!attnums) return CopyStep("its columns changed in a way that has several explanations");
  // The table as this message shows it, in the catalog's terms.
  TableFacts shown;
  shown.id = relation.table;
  shown.schema = SchemaOrSystem(relation.schema);
  shown.name = relation.name;
  shown.replica_identity = relation.replica_identity;
  for (size_t i = 0; i < relation.columns.size(); ++i) {
    const RelationColumn& column = relation.columns[i];
    AttributeFacts attribute;
    attribute.attnum = (*attnums)[i];
    attribute.name = column.name;
    attribute.type_oid = column.type_oid;
    attribute.typmod = column.typmod;
    if (facts != nullptr) {
      for (const AttributeFacts& now : facts->columns) {
        if (now.attnum == attribute.attnum && now.type_oid == column.type_oid &&
            now.typmod == column.typmod) {
          attribute.type = now.type;
        }
      }
    }
    if (attribute.type == nullptr) {
      for (const WireColumn& before : from.wire) {
        if (before.attnum == attribute.attnum && before.type_oid == column.type_oid &&
            before.typmod == column.typmod) {
          attribute.type = before.type;
        }
      }
    }
    if (attribute.type == nullptr) return CopyStep("a column's type is not known any more");
    if (column.key && relation.replica_identity != 'f') shown.key.push_back(attribute.attnum);
    shown.columns.push_back(std::move(attribute));
  }
  if (relation.replica_identity == 'f' && facts != nullptr) shown.key = facts->key;
  Result<TableSchemaPtr> to = MakeTableSchema(shown, rules, from.version + 1);
  if (!to.ok()) return to.status();
  if (facts != nullptr && MayShowAColumnThatWent(from, **to, *facts, given))
    return CopyStep("a column was added and dropped, and another one added, since the last look");
  return Compare(from, *to, facts);
}

Result<SchemaStep> StepForCatalog(const TableFacts& facts, const TableSchema& from,
                                  const ColumnRules& rules) {
  std::vector<const AttributeFacts*> published;
  for (const AttributeFacts& column : facts.columns) {
    if (column.published) published.push_back(&column);
  }
  const bool same_shapes = std::equal(
      published.begin(), published.end(), from.wire.begin(), from.wire.end(),
      [](const AttributeFacts* a, const WireColumn& b) { return ShapeOf(*a) == ShapeOf(b); });
  if (same_shapes) {
    for (size_t i = 0; i < published.size(); ++i) {
      // The Relation message is identical, so rows streamed in between cannot be told apart
      // (rule 7.3).
      if (published[i]->attnum != from.wire[i].attnum)
        return CopyStep("a column was dropped and added again");
    }
  }
  ETL_ASSIGN_OR_RETURN(TableSchemaPtr to, MakeTableSchema(facts, rules, from.version + 1));
  return Compare(from, to, &facts);
}

}  // namespace etl
