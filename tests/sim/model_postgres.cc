#include "sim/model_postgres.h"

#include <algorithm>

#include <fmt/format.h>

#include "base/check.h"
#include "postgres/type_resolver.h"

namespace etl {
namespace {

const TypeRows& Types() {
  static const TypeRows types = [] {
    TypeRows rows;
    const auto add = [&](uint32_t oid, const char* name, const char* display, char category) {
      TypeRow row;
      row.oid = oid;
      row.name = name;
      row.display = display;
      row.category = category;
      rows[oid] = row;
    };
    add(kInt4Oid, "int4", "integer", 'N');
    add(kInt8Oid, "int8", "bigint", 'N');
    add(kTextOid, "text", "text", 'S');
    add(kVarcharOid, "varchar", "character varying", 'S');
    return rows;
  }();
  return types;
}

ModelColumn MakeColumn(int16_t attnum, std::string name, uint32_t type, bool toastable = false) {
  ModelColumn column;
  column.attnum = attnum;
  column.name = std::move(name);
  column.type_oid = type;
  column.typmod = type == kVarcharOid ? 24 : -1;
  column.toastable = toastable;
  column.row_xmin = 1;
  return column;
}

}  // namespace

const ModelColumn* ModelTableState::Find(int16_t attnum) const {
  for (const ModelColumn& column : columns) {
    if (column.attnum == attnum) return &column;
  }
  return nullptr;
}

bool ModelTableState::IsKey(int16_t attnum) const {
  return std::find(key.begin(), key.end(), attnum) != key.end();
}

ModelPostgres::ModelPostgres(uint64_t seed, WorkloadOptions options)
    : random_(seed), savepoint_random_(seed + 1), options_(options) {
  Txn* txn = Begin();
  for (const char* name : {"keyed", "full_key", "keyless", "events"}) CreateTable(*txn, name);
  for (uint32_t oid : oids_) {
    for (uint64_t i = random_.Below(14); i > 0; --i) Insert(*txn, oid);
  }
  Commit(*txn, true, true);
  // The slot is made after this: what was before is only in the tables.
  committed_.clear();
  begun_.clear();
  if (options_.publication_changes && random_.OneIn(3)) {
    const uint32_t oid = oids_[random_.Below(oids_.size())];
    ModelTableState state = *NewestState(oid);
    state.publication_entry = 0;
    tables_.at(oid).versions = {{1, std::make_shared<ModelTableState>(state)}};
  }
  // Some transactions are open while the slot is made, and see its creation.
  ForeignWal();
  Flush();
  confirmed = persisted = insert();
}

bool ModelPostgres::Committed(uint32_t xid) const {
  const auto found = active_.find(xid);
  return found == active_.end() || found->second->state == Txn::State::kCommitted;
}

ModelTableStatePtr ModelPostgres::VisibleState(uint32_t oid) const {
  const auto found = tables_.find(oid);
  if (found == tables_.end()) return nullptr;
  for (auto it = found->second.versions.rbegin(); it != found->second.versions.rend(); ++it) {
    if (Visible(it->first)) return it->second->dropped ? nullptr : it->second;
  }
  return nullptr;
}

ModelTableStatePtr ModelPostgres::NewestState(uint32_t oid) const {
  const auto found = tables_.find(oid);
  if (found == tables_.end() || found->second.versions.empty()) return nullptr;
  const ModelTableStatePtr& state = found->second.versions.back().second;
  return state->dropped ? nullptr : state;
}

bool ModelPostgres::ExclusivelyLocked(uint32_t oid) const {
  return std::any_of(active_.begin(), active_.end(), [&](const auto& entry) {
    return entry.second->exclusive_locks.contains(oid);
  });
}

Row ModelPostgres::FullRow(const ModelTableState& state, const Row& stored) const {
  Row row;
  for (const ModelColumn& column : state.columns) {
    const auto found = stored.find(column.attnum);
    row[column.attnum] = found != stored.end() ? found->second
                         : column.has_missing  ? column.missing
                                               : Value();
  }
  return row;
}

std::vector<std::pair<uint32_t, Row>> ModelPostgres::Rows(
    uint32_t oid, const ModelTableState& state,
    const std::function<bool(uint32_t)>& visible) const {
  std::vector<std::pair<uint32_t, Row>> rows;
  const ModelTable& table = tables_.at(oid);
  const auto heap = table.heaps.find(state.file_node);
  if (heap == table.heaps.end()) return rows;
  for (const Tuple& tuple : heap->second) {
    if (!visible(tuple.xmin) || (tuple.xmax != 0 && visible(tuple.xmax))) continue;
    rows.emplace_back(tuple.block, FullRow(state, tuple.values));
  }
  return rows;
}

TableFacts ModelPostgres::Facts(uint32_t oid, const ModelTableState& state) const {
  TableFacts facts;
  facts.id = TableId{oid};
  facts.schema = state.schema;
  facts.name = state.name;
  facts.replica_identity = state.replica_identity;
  if (state.publication_entry != 0) facts.publication_entries = {state.publication_entry};
  facts.key = state.key;
  facts.attributes = static_cast<int16_t>(state.next_attnum - 1);
  for (const ModelColumn& column : state.columns) {
    AttributeFacts attribute;
    attribute.attnum = column.attnum;
    attribute.name = column.name;
    attribute.type_oid = column.type_oid;
    attribute.typmod = column.typmod;
    attribute.type = ResolveType(Types(), column.type_oid, column.typmod, 0);
    attribute.not_null = state.IsKey(column.attnum);
    attribute.has_missing = column.has_missing;
    attribute.missing_text = column.missing;
    attribute.row_xmin = column.row_xmin;
    facts.columns.push_back(std::move(attribute));
  }
  LeafFacts leaf;
  leaf.id = facts.id;
  leaf.schema = facts.schema;
  leaf.name = facts.name;
  leaf.file_node = state.file_node;
  const auto heap = tables_.at(oid).heaps.find(state.file_node);
  if (heap != tables_.at(oid).heaps.end()) {
    for (const Tuple& tuple : heap->second)
      leaf.blocks = std::max<int64_t>(leaf.blocks, tuple.block + 1);
    leaf.rows_estimate = static_cast<double>(heap->second.size());
  }
  facts.leaves.push_back(std::move(leaf));
  return facts;
}

// Transactions.

Txn* ModelPostgres::Begin() {
  auto txn = std::make_shared<Txn>();
  txn->xid = next_xid_++;
  txn->plain_steps = savepoint_random_.Below(3);
  active_[txn->xid] = txn;
  begun_.push_back(txn);
  return txn.get();
}

void ModelPostgres::Log(Txn& txn, WireChange change) {
  const bool plain = txn.undo.size() < txn.plain_steps;
  txn.kept.push_back(txn.log.size());
  txn.log.push_back({.change = change,
                     .subxid = plain ? txn.xid : next_subxid_++,
                     .lsn = insert(),
                     .undone = {}});
  txn.changes.push_back(std::move(change));
}

void ModelPostgres::Commit(Txn& txn, bool flush, bool visible) {
  Record();
  txn.commit_lsn = insert();
  Record();
  txn.end_lsn = insert();
  txn.time = wall_ += 1000;
  txn.state = Txn::State::kCommitted;
  txn.undo.clear();
  for (uint32_t oid : txn.write_locks) {
    Txn::Outcome& outcome = txn.outcomes[oid];
    const auto& versions = tables_.at(oid).versions;
    for (auto it = versions.rbegin(); it != versions.rend() && outcome.state == nullptr; ++it) {
      if (Committed(it->first)) outcome.state = it->second;
    }
    if (outcome.state == nullptr) continue;
    for (auto& [block, row] :
         Rows(oid, *outcome.state, [this](uint32_t xid) { return Committed(xid); }))
      outcome.rows.push_back(std::move(row));
  }
  committed_.push_back(active_.at(txn.xid));
  if (flush) Flush();
  Say(fmt::format("commit xid {} at {} end {} ({} changes){}{}", txn.xid, FormatLsn(txn.commit_lsn),
                  FormatLsn(txn.end_lsn), txn.changes.size(), flush ? " flushed" : "",
                  visible ? "" : ", not visible yet"));
  if (trace) {
    std::string text;
    for (const WireChange& change : txn.changes) {
      text += fmt::format(" {}:{}", change.kind, change.oid);
      for (const auto& [oid, state] : change.truncated) text += fmt::format(",{}", oid);
    }
    Say("  changes:" + text);
  }
  if (visible) MakeVisible(txn.xid);
}

void ModelPostgres::MakeVisible(uint32_t xid) {
  const TxnPtr txn = active_.at(xid);
  active_.erase(xid);
  for (uint32_t oid : txn->write_locks) Vacuum(oid);
  Say(fmt::format("visible xid {}", xid));
}

void ModelPostgres::RollbackTo(Txn& txn, size_t undo_size) {
  if (options_.savepoints) insert_ += 8;
  while (txn.undo.size() > undo_size) {
    txn.undo.back().run();
    while (txn.changes.size() > txn.undo.back().changes_before) {
      txn.log[txn.kept.back()].undone = insert();
      txn.kept.pop_back();
      txn.changes.pop_back();
    }
    txn.undo.pop_back();
  }
}

void ModelPostgres::Abort(uint32_t xid) {
  Say(fmt::format("abort xid {}", xid));
  RollbackTo(*active_.at(xid), 0);
  Record();
  active_.at(xid)->aborted = insert();
  active_.erase(xid);
}

Txn* ModelPostgres::PickOpen() {
  std::vector<Txn*> open;
  for (auto& [xid, txn] : active_) {
    if (txn->state == Txn::State::kOpen) open.push_back(txn.get());
  }
  if (open.empty() || (open.size() < 4 && random_.OneIn(3))) return Begin();
  return open[random_.Below(open.size())];
}

bool ModelPostgres::CanLock(const Txn& txn, uint32_t oid, bool exclusive) const {
  for (const auto& [xid, other] : active_) {
    if (xid == txn.xid) continue;
    if (other->exclusive_locks.contains(oid)) return false;
    if (exclusive && other->write_locks.contains(oid)) return false;
  }
  return !exclusive || tables_.at(oid).share_locks == 0;
}

std::optional<uint32_t> ModelPostgres::PickTable(const Txn& txn, bool exclusive) {
  std::vector<uint32_t> fit;
  for (uint32_t oid : oids_) {
    if (NewestState(oid) != nullptr && CanLock(txn, oid, exclusive)) fit.push_back(oid);
  }
  if (fit.empty()) return std::nullopt;
  return fit[random_.Below(fit.size())];
}

void ModelPostgres::Act() {
  const uint64_t dice = random_.Below(100);
  if (dice < 55) {
    RowAction(*PickOpen());
  } else if (dice < 75) {
    Txn* txn = PickOpen();
    if (txn->undo.empty() && txn->changes.empty() && txn->write_locks.empty()) {
      RowAction(*txn);
    }
    Commit(*txn, !options_.asynchronous_commit || !random_.OneIn(3),
           !options_.visibility_lag || !random_.OneIn(3));
  } else if (dice < 82) {
    std::vector<uint32_t> hidden;
    for (const auto& [xid, txn] : active_) {
      if (txn->state == Txn::State::kCommitted) hidden.push_back(xid);
    }
    if (!hidden.empty()) MakeVisible(hidden[random_.Below(hidden.size())]);
  } else if (dice < 85) {
    Txn* txn = PickOpen();
    if (random_.OneIn(2)) {
      Abort(txn->xid);
    } else {
      const size_t to = random_.Below(txn->undo.size() + 1);
      // What stands before the first savepoint goes with the whole transaction only.
      RollbackTo(*txn, options_.savepoints ? std::max(to, txn->plain_steps) : to);
    }
  } else if (dice < 88) {
    ForeignWal();
  } else if (dice < 92) {
    Flush();
  } else if (dice < 94) {
    Truncate(*PickOpen());
  } else if (dice < 99) {
    if (options_.ddl) SchemaAction(*PickOpen());
  } else if (options_.publication_changes) {
    PublicationAction();
  }
}

void ModelPostgres::Calm() {
  while (!active_.empty()) {
    const TxnPtr txn = active_.begin()->second;
    if (txn->state == Txn::State::kOpen) {
      Commit(*txn, true, true);
    } else {
      MakeVisible(txn->xid);
    }
  }
  Flush();
}

void ModelPostgres::ForeignWal() { insert_ += 8 * (1 + random_.Below(100)); }

void ModelPostgres::EmitMessage(bool transactional) {
  auto txn = std::make_shared<Txn>();
  WireChange message;
  message.kind = 'M';
  txn->changes.push_back(message);
  Record();
  if (!transactional) {
    Flush();
    return;
  }
  txn->xid = next_xid_++;
  active_[txn->xid] = txn;
  Commit(*txn, true, true);
}

// Rows.

void ModelPostgres::Vacuum(uint32_t oid) {
  ModelTable& table = tables_.at(oid);
  for (auto& [node, heap] : table.heaps) {
    std::erase_if(heap, [&](const Tuple& t) { return t.xmax != 0 && Visible(t.xmax); });
  }
}

Value ModelPostgres::RandomValue(const ModelColumn& column, bool key) {
  if (key && column.type_oid == kTextOid) return fmt::format("k{}", random_.Below(3));
  if (key) return std::to_string(1 + random_.Below(options_.keys));
  if (random_.OneIn(6)) return std::nullopt;
  switch (column.type_oid) {
    case kInt4Oid:
    case kInt8Oid: return std::to_string(static_cast<int64_t>(random_.Below(2000)) - 1000);
    default: break;
  }
  const uint64_t serial = next_text_++;
  if (column.toastable && !random_.OneIn(4)) return fmt::format("out of line value {:06}", serial);
  if (random_.OneIn(8)) return fmt::format("a\tb\\{}\n\r.", serial);
  if (random_.OneIn(8)) return std::string();
  return fmt::format("v{}", serial);
}

bool ModelPostgres::KeyIsFree(const Txn& txn, uint32_t oid, const ModelTableState& state,
                              const Row& row) const {
  const ModelTable& table = tables_.at(oid);
  const auto heap = table.heaps.find(state.file_node);
  for (const Tuple& tuple : heap->second) {
    const bool same = std::all_of(state.key.begin(), state.key.end(), [&](int16_t attnum) {
      return tuple.values.at(attnum) == row.at(attnum);
    });
    if (!same) continue;
    if (tuple.xmin != txn.xid && !Visible(tuple.xmin)) return false;
    if (tuple.xmax == 0 || (tuple.xmax != txn.xid && !Visible(tuple.xmax))) return false;
  }
  return true;
}

Tuple* ModelPostgres::PickRow(const Txn& txn, uint32_t oid) {
  ModelTable& table = tables_.at(oid);
  std::vector<Tuple*> fit;
  for (Tuple& tuple : table.heaps.at(NewestState(oid)->file_node)) {
    if (tuple.xmax == 0 && (tuple.xmin == txn.xid || Visible(tuple.xmin))) fit.push_back(&tuple);
  }
  return fit.empty() ? nullptr : fit[random_.Below(fit.size())];
}

Tuple* ModelPostgres::AddTuple(Txn& txn, uint32_t oid, const ModelTableState& state, Row values,
                               uint32_t near) {
  Heap& heap = tables_.at(oid).heaps.at(state.file_node);
  uint32_t blocks = 0;
  for (const Tuple& tuple : heap) blocks = std::max(blocks, tuple.block + 1);
  Tuple tuple;
  tuple.block = random_.OneIn(2) ? near : static_cast<uint32_t>(random_.Below(blocks + 1));
  tuple.values = std::move(values);
  tuple.xmin = txn.xid;
  heap.push_back(std::move(tuple));
  return &heap.back();
}

void ModelPostgres::RowAction(Txn& txn) {
  const std::optional<uint32_t> oid = PickTable(txn, false);
  if (!oid) return;
  const uint64_t dice = random_.Below(10);
  const ModelTableStatePtr state = NewestState(*oid);
  if (!state->key.empty() && options_.take_over_one_in != 0 &&
      random_.OneIn(options_.take_over_one_in)) {
    return TakeOver(txn, *oid);
  }
  const bool insert_only = state->key.empty() && state->replica_identity != 'f';
  if (dice < 4 || insert_only) {
    for (uint64_t i = 1 + random_.Below(3); i > 0; --i) Insert(txn, *oid);
  } else if (dice < 8) {
    Update(txn, *oid);
  } else {
    Delete(txn, *oid, PickRow(txn, *oid));
  }
}

void ModelPostgres::Insert(Txn& txn, uint32_t oid) {
  const ModelTableStatePtr state = NewestState(oid);
  Row row;
  for (const ModelColumn& column : state->columns)
    row[column.attnum] = RandomValue(column, state->IsKey(column.attnum));
  if (!state->key.empty() && !KeyIsFree(txn, oid, *state, row)) return;
  txn.write_locks.insert(oid);
  const size_t before = txn.changes.size();
  Tuple* tuple = AddTuple(txn, oid, *state, row, 0);
  Record();
  if (state->published()) {
    WireChange change;
    change.kind = 'I';
    change.oid = oid;
    change.relation = state;
    change.new_row = row;
    Log(txn, std::move(change));
  }
  Heap* heap = &tables_.at(oid).heaps.at(state->file_node);
  txn.undo.push_back(
      {[heap, tuple] { std::erase_if(*heap, [&](const Tuple& t) { return &t == tuple; }); },
       before});
}

void ModelPostgres::Update(Txn& txn, uint32_t oid) {
  const ModelTableStatePtr state = NewestState(oid);
  Tuple* old = PickRow(txn, oid);
  if (old == nullptr) return;
  const Row before_row = FullRow(*state, old->values);
  Row row = before_row;
  std::set<int16_t> touched;
  const bool change_key = !state->key.empty() && random_.OneIn(4);
  for (const ModelColumn& column : state->columns) {
    const bool key = state->IsKey(column.attnum);
    if (key ? !change_key : !random_.OneIn(3)) continue;
    row[column.attnum] = RandomValue(column, key);
    touched.insert(column.attnum);
  }
  Update(txn, oid, old, std::move(row), touched);
}

// A row takes the key of another one that is deleted just before; nothing else of it changes, so
// its value out of line is not sent.
void ModelPostgres::TakeOver(Txn& txn, uint32_t oid) {
  const ModelTableStatePtr state = NewestState(oid);
  Tuple* gone = PickRow(txn, oid);
  Tuple* heir = PickRow(txn, oid);
  if (gone == nullptr || gone == heir) return;
  Row row = FullRow(*state, heir->values);
  for (int16_t attnum : state->key) row[attnum] = gone->values.at(attnum);
  Delete(txn, oid, gone);
  Update(txn, oid, heir, std::move(row), {});
}

void ModelPostgres::Update(Txn& txn, uint32_t oid, Tuple* old, Row row,
                           const std::set<int16_t>& touched) {
  const ModelTableStatePtr state = NewestState(oid);
  const Row before_row = FullRow(*state, old->values);
  const bool moves = std::any_of(state->key.begin(), state->key.end(), [&](int16_t attnum) {
    return row[attnum] != before_row.at(attnum);
  });
  if (moves && !KeyIsFree(txn, oid, *state, row)) return;
  txn.write_locks.insert(oid);
  const size_t before = txn.changes.size();
  Tuple* tuple = AddTuple(txn, oid, *state, row, old->block);
  old->xmax = txn.xid;
  Record();
  if (state->published()) {
    WireChange change;
    change.kind = 'U';
    change.oid = oid;
    change.relation = state;
    change.old_row = before_row;
    change.new_row = row;
    for (const ModelColumn& column : state->columns) {
      const Value& value = row[column.attnum];
      // A default that was never stored in the row is stored, and sent, by its first update.
      if (column.toastable && !touched.contains(column.attnum) && value &&
          value->size() >= kToastLength && old->values.contains(column.attnum)) {
        change.unsent.insert(column.attnum);
      }
    }
    Log(txn, std::move(change));
  }
  Heap* heap = &tables_.at(oid).heaps.at(state->file_node);
  txn.undo.push_back({[heap, tuple, old] {
                        old->xmax = 0;
                        std::erase_if(*heap, [&](const Tuple& t) { return &t == tuple; });
                      },
                      before});
}

void ModelPostgres::Delete(Txn& txn, uint32_t oid, Tuple* old) {
  const ModelTableStatePtr state = NewestState(oid);
  if (old == nullptr) return;
  txn.write_locks.insert(oid);
  const size_t before = txn.changes.size();
  old->xmax = txn.xid;
  Record();
  if (state->published()) {
    WireChange change;
    change.kind = 'D';
    change.oid = oid;
    change.relation = state;
    change.old_row = FullRow(*state, old->values);
    Log(txn, std::move(change));
  }
  txn.undo.push_back({[old] { old->xmax = 0; }, before});
}

void ModelPostgres::Truncate(Txn& txn) {
  WireChange change;
  change.kind = 'T';
  const size_t before = txn.changes.size();
  const size_t undo_before = txn.undo.size();
  for (uint64_t i = 1 + random_.Below(2); i > 0; --i) {
    const std::optional<uint32_t> oid = PickTable(txn, true);
    if (!oid) break;
    ModelTableState state = *NewestState(*oid);
    if (state.published()) change.truncated.emplace_back(*oid, NewestState(*oid));
    NewHeap(txn, *oid, state, /*keep_rows=*/false, {});
    SetState(txn, *oid, std::move(state));
  }
  Record();
  if (!change.truncated.empty()) Log(txn, std::move(change));
  // One statement is undone as a whole.
  if (txn.undo.size() == undo_before) return;
  std::vector<Txn::Undo> parts(txn.undo.begin() + static_cast<ptrdiff_t>(undo_before),
                               txn.undo.end());
  txn.undo.resize(undo_before);
  txn.undo.push_back({[parts] {
                        for (auto it = parts.rbegin(); it != parts.rend(); ++it) it->run();
                      },
                      before});
}

// Schema.

void ModelPostgres::SetState(Txn& txn, uint32_t oid, ModelTableState state) {
  state.relation_serial = next_serial_++;
  txn.write_locks.insert(oid);
  txn.exclusive_locks.insert(oid);
  ModelTable* table = &tables_.at(oid);
  table->versions.emplace_back(txn.xid, std::make_shared<ModelTableState>(std::move(state)));
  Record();
  txn.undo.push_back({[table] { table->versions.pop_back(); }, txn.changes.size()});
}

void ModelPostgres::NewHeap(Txn& txn, uint32_t oid, ModelTableState& state, bool keep_rows,
                            const std::function<void(Row&)>& change) {
  ModelTable& table = tables_.at(oid);
  const ModelTableStatePtr old = NewestState(oid);
  const uint32_t node = next_oid_++;
  Heap& heap = table.heaps[node];
  if (keep_rows) {
    uint32_t count = 0;
    for (const Tuple& tuple : table.heaps.at(old->file_node)) {
      if (tuple.xmax != 0) continue;
      Tuple copy;
      copy.block = count++ / 2;
      copy.values = FullRow(*old, tuple.values);
      copy.xmin = txn.xid;
      if (change) change(copy.values);
      heap.push_back(std::move(copy));
    }
    for (ModelColumn& column : state.columns) {
      if (!column.has_missing) continue;
      column.has_missing = false;
      column.missing.reset();
      column.row_xmin = txn.xid;
    }
  }
  state.file_node = node;
}

void ModelPostgres::CreateTable(Txn& txn, const std::string& name) {
  const uint32_t oid = next_oid_++;
  ModelTableState state;
  state.name = name;
  state.file_node = next_oid_++;
  state.publication_entry = next_oid_++;
  state.relation_serial = next_serial_++;
  if (name == "keyed") {
    state.columns = {MakeColumn(1, "id", kInt4Oid), MakeColumn(2, "a", kTextOid),
                     MakeColumn(3, "big", kTextOid, true), MakeColumn(4, "n", kInt4Oid),
                     MakeColumn(5, "v", kVarcharOid)};
    state.key = {1};
    state.replica_identity = random_.OneIn(3) ? 'i' : 'd';
  } else if (name == "full_key") {
    state.columns = {MakeColumn(1, "k1", kInt4Oid), MakeColumn(2, "big", kTextOid, true),
                     MakeColumn(3, "k2", kTextOid), MakeColumn(4, "n", kInt8Oid)};
    state.key = {3, 1};
    state.replica_identity = random_.OneIn(2) ? 'f' : 'd';
  } else if (name == "keyless") {
    state.columns = {MakeColumn(1, "n", kInt4Oid), MakeColumn(2, "big", kTextOid, true)};
    state.replica_identity = 'f';
  } else {
    state.columns = {MakeColumn(1, "n", kInt4Oid), MakeColumn(2, "a", kTextOid)};
    state.replica_identity = random_.OneIn(2) ? 'n' : 'd';
  }
  for (ModelColumn& column : state.columns) column.row_xmin = txn.xid;
  state.next_attnum = static_cast<int16_t>(state.columns.size() + 1);
  ModelTable& table = tables_[oid];
  table.oid = oid;
  table.heaps[state.file_node];
  oids_.push_back(oid);
  txn.write_locks.insert(oid);
  txn.exclusive_locks.insert(oid);
  ModelTable* where = &table;
  where->versions.emplace_back(txn.xid, std::make_shared<ModelTableState>(std::move(state)));
  txn.undo.push_back({[where] { where->versions.pop_back(); }, txn.changes.size()});
}

void ModelPostgres::SchemaAction(Txn& txn) {
  const std::optional<uint32_t> picked = PickTable(txn, true);
  if (!picked) return;
  const uint32_t oid = *picked;
  ModelTableState state = *NewestState(oid);
  std::vector<size_t> plain;  // columns that are no key
  for (size_t i = 0; i < state.columns.size(); ++i) {
    if (!state.IsKey(state.columns[i].attnum)) plain.push_back(i);
  }
  const size_t index = plain.empty() ? 0 : plain[random_.Below(plain.size())];
  const auto add = [&](std::string name, uint32_t type) -> ModelColumn& {
    ModelColumn column = MakeColumn(state.next_attnum++, std::move(name), type,
                                    type == kTextOid && random_.OneIn(2));
    column.row_xmin = txn.xid;
    state.columns.push_back(column);
    return state.columns.back();
  };
  const auto fresh_name = [&] { return fmt::format("c{}", next_text_++); };
  const uint64_t dice = random_.Below(13);
  const char* what = "";
  switch (dice) {
    case 0:
      what = "add column";
      add(fresh_name(), kTextOid);
      break;
    case 1: {
      what = "add column with default";
      ModelColumn& column = add(fresh_name(), random_.OneIn(2) ? kInt4Oid : kTextOid);
      column.has_missing = true;
      column.missing = column.type_oid == kInt4Oid ? "42" : "default value out of line";
      break;
    }
    case 2: {
      what = "add column with volatile default";
      const std::string name = fresh_name();
      NewHeap(txn, oid, state, true,
              [&](Row& row) { row[state.next_attnum] = std::to_string(random_.Below(1000)); });
      add(name, kInt4Oid);
      break;
    }
    case 3:
      if (plain.size() < 2) return;
      what = "drop column";
      state.columns.erase(state.columns.begin() + static_cast<ptrdiff_t>(index));
      break;
    case 4:
      if (plain.empty()) return;
      what = "rename column";
      state.columns[index].name = fresh_name();
      state.columns[index].row_xmin = txn.xid;
      break;
    case 5: {
      if (plain.empty()) return;
      what = "drop and add the last column";
      const ModelColumn last = state.columns[plain.back()];
      state.columns.erase(state.columns.begin() + static_cast<ptrdiff_t>(plain.back()));
      add(last.name, last.type_oid).typmod = last.typmod;
      break;
    }
    case 6: {
      what = "rewrite of the same type";
      const size_t at = [&] {
        for (size_t i : plain) {
          if (state.columns[i].type_oid == kInt4Oid) return i;
        }
        return state.columns.size();
      }();
      if (at == state.columns.size()) return;
      const int16_t attnum = state.columns[at].attnum;
      NewHeap(txn, oid, state, true, [&](Row& row) {
        Value& value = row[attnum];
        if (value) value = std::to_string(std::stoll(*value) + 1);
      });
      state.columns[at].row_xmin = txn.xid;
      break;
    }
    case 7: {
      what = "int to bigint";
      if (plain.empty() || state.columns[index].type_oid != kInt4Oid) return;
      NewHeap(txn, oid, state, true, {});
      state.columns[index].type_oid = kInt8Oid;
      state.columns[index].row_xmin = txn.xid;
      break;
    }
    case 8: {
      what = "longer varchar";
      if (plain.empty() || state.columns[index].type_oid != kVarcharOid) return;
      if (random_.OneIn(2)) {
        state.columns[index].typmod += 10;
      } else {
        state.columns[index].type_oid = kTextOid;
        state.columns[index].typmod = -1;
      }
      state.columns[index].row_xmin = txn.xid;
      break;
    }
    case 9:
      what = "rename table";
      state.name = fmt::format("t{}", next_text_++);
      break;
    case 10:
      what = "vacuum full";
      NewHeap(txn, oid, state, true, {});
      break;
    case 11: what = "analyze"; break;
    default: {
      if (!random_.OneIn(3)) return;
      what = "drop table and create it again";
      const std::string name = state.name;
      state.dropped = true;
      SetState(txn, oid, state);
      CreateTable(txn, name);
      Say(fmt::format("xid {}: {} ({} -> {})", txn.xid, what, oid, oids_.back()));
      return;
    }
  }
  Say(fmt::format("xid {}: {} on {}", txn.xid, what, oid));
  if (dice == 2 || dice == 5 || dice == 6 || dice == 7) txn.silently_changed.insert(oid);
  SetState(txn, oid, std::move(state));
  if (random_.OneIn(3)) Commit(txn, true, !options_.visibility_lag || random_.OneIn(2));
}

// ALTER PUBLICATION … ADD or DROP TABLE does not wait for writers of the table.
void ModelPostgres::PublicationAction() {
  const uint32_t oid = oids_[random_.Below(oids_.size())];
  const ModelTableStatePtr newest = NewestState(oid);
  if (newest == nullptr || ExclusivelyLocked(oid)) return;
  // Not modelled: one transaction that changes a row before the table leaves the publication, again
  // while it is out, and ends after it is back. The stream shows half of it, and the engine does
  // not notice that.
  if (newest->publication_entry != 0) {
    for (const auto& [xid, txn] : active_) {
      if (txn->write_locks.contains(oid)) return;
    }
  }
  ModelTableState state = *newest;
  state.publication_entry = state.publication_entry == 0 ? next_oid_++ : 0;
  state.relation_serial = next_serial_++;
  if (state.publication_entry != 0) {
    for (const auto& [xid, open] : active_) {
      if (open->write_locks.contains(oid)) open->forgets[oid] = state.relation_serial;
    }
  }
  Txn* txn = Begin();
  txn->write_locks.insert(oid);
  txn->silently_changed.insert(oid);
  Say(fmt::format("xid {}: {} table {}", txn->xid,
                  state.publication_entry == 0 ? "unpublish" : "publish", oid));
  tables_.at(oid).versions.emplace_back(txn->xid,
                                        std::make_shared<ModelTableState>(std::move(state)));
  Record();
  Commit(*txn, true, true);
}

}  // namespace etl
