-- Health of a ModelDeployment for Argo CD. In the ConfigMap argocd-cm, as the value of the key
-- resource.customizations.health.modeldeployment.io_ModelDeployment
local found = {}
local status = obj.status or {}
for _, condition in ipairs(status.conditions or {}) do
  found[condition.type] = condition
end

local function is(type, wanted)
  return found[type] ~= nil and found[type].status == wanted
end

local function say(health, type)
  local condition = found[type]
  return {status = health, message = condition.reason .. ": " .. condition.message}
end

local progressing = found.Progressing
if progressing == nil or (status.observedGeneration or 0) < (obj.metadata.generation or 0) then
  return {status = "Progressing", message = "the operator has not looked at this spec yet"}
end
-- What the spec asks for was taken back, or cannot start: somebody must act.
if is("Stalled", "True") then
  return say("Degraded", "Stalled")
end
if is("Healthy", "False") then
  return say("Degraded", "Healthy")
end
if progressing.reason == "Suspended" or progressing.reason == "Inconclusive" then
  return say("Suspended", "Progressing")
end
-- A promoted version under watch serves everything: a sync need not wait a day for the watch to end.
if progressing.status == "True" and progressing.reason ~= "Watching" then
  return say("Progressing", "Progressing")
end
if not is("Ready", "True") then
  return say("Degraded", found.Ready ~= nil and "Ready" or "Progressing")
end
if is("RouteProgrammed", "False") then
  return say("Degraded", "RouteProgrammed")
end
return say("Healthy", "Progressing")
