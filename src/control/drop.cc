#include "control/drop.h"

#include "control/commands.h"
#include "postgres/source_setup.h"

namespace etl {

Status DropPipeline(const Config& config, const std::string& pipeline, ProcessResources* resources,
                    const Clock& clock) {
  const PipelineConfig& definition = config.pipelines.at(pipeline);
  const Instant deadline = clock.Now() + std::chrono::seconds(30);
  ETL_ASSIGN_OR_RETURN(const SourceOptions source, MakeSourceOptions(config, definition));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<SourceSetup> setup,
                       SourceSetup::Connect(source, deadline));
  // The slot first: it is what can fill the source's disk.
  ETL_RETURN_IF_ERROR(setup->DropSlot(definition.slot, deadline));
  ETL_RETURN_IF_ERROR(setup->DropPublication(definition.publication, deadline));
  ETL_ASSIGN_OR_RETURN(const PipelineSpec spec, MakePipelineSpec(config, pipeline, resources));
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<Destination> destination, spec.make_destination());
  ETL_RETURN_IF_ERROR(
      destination->Start({.pipeline = pipeline, .mode = spec.reader.mode}).status());
  const Status forgotten = destination->Forget();
  const Status closed = destination->Shutdown(clock.Now() + std::chrono::seconds(5));
  return forgotten.ok() ? closed : forgotten;
}

Status RunDrop(ControlContext& context, const std::string& pipeline) {
  ETL_ASSIGN_OR_RETURN(const std::unique_ptr<RunnerLock> lock,
                       context.catalog.TryLockPipeline(pipeline));
  ProcessResources resources(*context.config);
  ETL_RETURN_IF_ERROR(DropPipeline(*context.config, pipeline, &resources, context.clock));
  return context.catalog.Forget(pipeline);
}

}  // namespace etl
