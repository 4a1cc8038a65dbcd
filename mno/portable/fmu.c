/* An observer as a co-simulation FMU, of FMI 2.0 and 3.0: ONNX Runtime behind the functions of FMI.

   A communication step takes one reading in: inputs are set to what was read at its end, NaN where
   nothing was, and outputs are what is then. The first reading is taken at the end of
   initialisation. What is known of a run is one block of memory, `Known`, which is copied to get,
   set and serialise the state.

   `model.h` is written beside this file, of one model. Its arrays are of what the model is given
   and tells: the first GIVEN and TOLD numbers of `Known` are variables of the FMU, numbered from 1,
   and those behind them the time since the last reading, that since the first, and the memory. */

#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <onnxruntime/onnxruntime_c_api.h>

#include "model.h"

#define EXPORT __attribute__((visibility("default")))
enum { OK = 0, ERROR = 3 };

typedef void (*Log2)(void *, const char *, int, const char *, const char *, ...);
typedef void (*Log3)(void *, int, const char *, const char *);
typedef struct { /* the beginning of fmi2CallbackFunctions */
    Log2 log;
    void *allocate, *release, *finished, *environment;
} Callbacks2;

typedef struct {
    double time, first; /* seconds: now, and of the first reading */
    int32_t told;       /* whether there was one */
    float given[ALL_GIVEN], tells[TOLD];
} Known;

typedef struct {
    Known known;
    const OrtApi *ort;
    OrtEnv *environment;
    OrtSession *session;
    OrtMemoryInfo *memory;
    Log2 log2;
    Log3 log3;
    void *owner;
    char *name;
} Instance;

static int fail(Instance *of, const char *text, ...) {
    char line[512];
    va_list rest;
    va_start(rest, text);
    vsnprintf(line, sizeof line, text, rest);
    va_end(rest);
    if (of->log2) of->log2(of->owner, of->name, ERROR, "logStatusError", "%s", line);
    if (of->log3) of->log3(of->owner, ERROR, "logStatusError", line);
    return ERROR;
}

static bool fine(Instance *of, OrtStatus *status) {
    if (!status) return true;
    fail(of, "ONNX Runtime: %s", of->ort->GetErrorMessage(status));
    of->ort->ReleaseStatus(status);
    return false;
}

static void begin(Instance *of) {
    memset(&of->known, 0, sizeof of->known);
    for (int i = 0; i < GIVEN; i++) of->known.given[i] = NAN;
    for (int i = 0; i < TOLD; i++) of->known.tells[i] = NAN;
}

static void end(Instance *of) {
    if (of->ort) {
        if (of->memory) of->ort->ReleaseMemoryInfo(of->memory);
        if (of->session) of->ort->ReleaseSession(of->session);
        if (of->environment) of->ort->ReleaseEnv(of->environment);
    }
    free(of->name);
    free(of);
}

/* Take the path out of a URI, as file:///a%20plant, file://localhost/a or file:/a; else as it is. */
static void locate(const char *uri, char *path, size_t size) {
    bool encoded = !strncmp(uri, "file:", 5);
    size_t count = 0;
    if (encoded) uri += 5;
    if (encoded && !strncmp(uri, "//", 2)) uri += 2 + strcspn(uri + 2, "/"); /* the host */
    for (; *uri && count + 1 < size; uri++) {
        char digits[3] = "";
        bool byte = encoded && sscanf(uri, "%%%2[0-9a-fA-F]", digits) == 1 && digits[1];
        path[count++] = byte ? (char)strtol(digits, NULL, 16) : *uri;
        if (byte) uri += 2;
    }
    path[count] = 0;
}

static Instance *begun(const char *name, const char *token, const char *resources, Instance with) {
    Instance *of = calloc(1, sizeof *of);
    char folder[4096], path[sizeof folder];
    OrtSessionOptions *options = NULL;
    if (!of) return NULL;
    *of = with;
    of->name = strdup(name ? name : "model");
    begin(of);
    if (!token || strcmp(token, TOKEN)) {
        fail(of, "the token %s is not that of this model, %s", token ? token : "", TOKEN);
        return end(of), NULL;
    }
    locate(resources ? resources : "", folder, sizeof folder);
    if (snprintf(path, sizeof path, "%s/model.onnx", folder) >= (int)sizeof path) {
        fail(of, "the path of the resources has more than %zu letters", sizeof path - 12);
        return end(of), NULL;
    }
    of->ort = OrtGetApiBase()->GetApi(ORT_API_VERSION);
    if (!of->ort) {
        fail(of, "this ONNX Runtime is %s; expected 1.%d or later, for which it was built",
             OrtGetApiBase()->GetVersionString(), ORT_API_VERSION);
        return end(of), NULL;
    }
    const OrtApi *ort = of->ort;
    bool made = fine(of, ort->CreateEnv(ORT_LOGGING_LEVEL_ERROR, "mno", &of->environment)) &&
                fine(of, ort->CreateSessionOptions(&options)) &&
                fine(of, ort->SetIntraOpNumThreads(options, 1)) &&
                fine(of, ort->CreateSession(of->environment, path, options, &of->session)) &&
                fine(of, ort->CreateCpuMemoryInfo(OrtArenaAllocator, OrtMemTypeDefault, &of->memory));
    if (options) ort->ReleaseSessionOptions(options);
    if (!made) return end(of), NULL;
    return of;
}

/* Take the reading in that is set, so long after the last one. */
static int tell(Instance *of, double now) {
    const OrtApi *ort = of->ort;
    Known *known = &of->known;
    OrtValue *values[GIVEN_TENSORS] = {0}, *found[TOLD_TENSORS] = {0};
    for (int i = 0; i < GIVEN; i++)
        if (NEEDED[i] && isnan(known->given[i]))
            return fail(of, "%s was not set; this model needs it", GIVEN_NAMES[i]);
    known->given[GIVEN] = known->told ? (float)((now - known->time) / SECONDS) : 1.0f;
    if (!known->told) known->first = now;
    known->given[GIVEN + 1] = (float)((now - known->first) / SECONDS);
    bool ok = true;
    for (int i = 0; ok && i < GIVEN_TENSORS; i++)
        ok = fine(of, ort->CreateTensorWithDataAsOrtValue(
                          of->memory, known->given + GIVEN_AT[i], sizeof(float) * GIVEN_COUNT[i],
                          GIVEN_SHAPE[i], GIVEN_RANK[i], ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT,
                          &values[i]));
    ok = ok && fine(of, ort->Run(of->session, NULL, GIVEN_TENSOR, (const OrtValue *const *)values,
                                 GIVEN_TENSORS, TOLD_TENSOR, TOLD_TENSORS, found));
    for (int i = 0; ok && i < TOLD_TENSORS; i++) {
        float *numbers = NULL;
        ok = fine(of, ort->GetTensorMutableData(found[i], (void **)&numbers));
        bool memory = i == TOLD_TENSORS - 1;
        float *to = memory ? known->given + GIVEN + 2 : known->tells + TOLD_AT[i];
        if (ok) memcpy(to, numbers, sizeof(float) * TOLD_COUNT[i]);
    }
    for (int i = 0; i < GIVEN_TENSORS; i++)
        if (values[i]) ort->ReleaseValue(values[i]);
    for (int i = 0; i < TOLD_TENSORS; i++)
        if (found[i]) ort->ReleaseValue(found[i]);
    known->time = now;
    known->told |= ok;
    return ok ? OK : ERROR;
}

static int step(Instance *of, double from, double size) {
    double slack = 1e-9 * (fabs(of->known.time) + fabs(size) + 1.0);
    if (fabs(from - of->known.time) > slack)
        return fail(of, "a step begins at %g s, but the model is at %g s; it goes on from there, and "
                        "back only by a state that was got before", from, of->known.time);
    if (!(size > 0.0)) return fail(of, "a step of %g s; expected one above 0", size);
    return tell(of, from + size);
}

static int get(Instance *of, const uint32_t *which, size_t count, double *values) {
    for (size_t i = 0; i < count; i++) {
        uint32_t n = which[i];
        if (n > GIVEN + TOLD) return fail(of, "there is no variable %u", n);
        values[i] = !n ? of->known.time
                  : n <= GIVEN ? of->known.given[n - 1] : of->known.tells[n - 1 - GIVEN];
    }
    return OK;
}

static int set(Instance *of, const uint32_t *which, size_t count, const double *values) {
    for (size_t i = 0; i < count; i++) {
        if (!which[i] || which[i] > GIVEN) return fail(of, "variable %u is no input", which[i]);
        of->known.given[which[i] - 1] = (float)values[i];
    }
    return OK;
}

static int kept(Instance *of, void **state) {
    if (!*state) *state = malloc(sizeof of->known);
    return *state ? memcpy(*state, &of->known, sizeof of->known), OK : fail(of, "no memory");
}

static int restored(Instance *of, const void *state) {
    return state ? memcpy(&of->known, state, sizeof of->known), OK : fail(of, "no state is given");
}

static int released(void **state) { return free(*state), *state = NULL, OK; }

static int written(Instance *of, const void *state, uint8_t *bytes, size_t size) {
    if (!state || size < sizeof of->known) return fail(of, "%zu bytes are too few", size);
    return memcpy(bytes, state, sizeof of->known), OK;
}

static int read(Instance *of, const uint8_t *bytes, size_t size, void **state) {
    if (size != sizeof of->known) return fail(of, "%zu bytes are no state of this model", size);
    *state = malloc(size);
    return *state ? memcpy(*state, bytes, size), OK : fail(of, "no memory");
}

#define NOTHING(name) EXPORT int name(void) { return OK; }
#define NOT_THERE(name) EXPORT int name(void) { return ERROR; }

#if FMI == 3

EXPORT const char *fmi3GetVersion(void) { return "3.0"; }
EXPORT void *fmi3InstantiateCoSimulation(
    const char *name, const char *token, const char *resources, bool visible, bool logging,
    bool events, bool early, const uint32_t *intermediate, size_t count, void *owner, Log3 log,
    void *update) {
    (void)visible, (void)logging, (void)events, (void)early, (void)intermediate, (void)count;
    (void)update;
    return begun(name, token, resources, (Instance){.log3 = log, .owner = owner});
}
EXPORT void fmi3FreeInstance(Instance *of) { if (of) end(of); }
EXPORT int fmi3EnterInitializationMode(Instance *of, bool a, double b, double start, bool c,
                                       double d) {
    (void)a, (void)b, (void)c, (void)d;
    return of->known.time = start, OK;
}
EXPORT int fmi3ExitInitializationMode(Instance *of) { return tell(of, of->known.time); }
EXPORT int fmi3Reset(Instance *of) { return begin(of), OK; }
EXPORT int fmi3DoStep(Instance *of, double from, double size, bool no_more, bool *event,
                      bool *terminate, bool *early, double *last) {
    (void)no_more;
    *event = *terminate = *early = false;
    int status = step(of, from, size);
    return *last = of->known.time, status;
}
EXPORT int fmi3GetFloat64(Instance *of, const uint32_t *which, size_t count, double *values,
                          size_t number) {
    return number == count ? get(of, which, count, values) : fail(of, "variables are scalars");
}
EXPORT int fmi3SetFloat64(Instance *of, const uint32_t *which, size_t count, const double *values,
                          size_t number) {
    return number == count ? set(of, which, count, values) : fail(of, "variables are scalars");
}
EXPORT int fmi3GetFMUState(Instance *of, void **state) { return kept(of, state); }
EXPORT int fmi3SetFMUState(Instance *of, void *state) { return restored(of, state); }
EXPORT int fmi3FreeFMUState(Instance *of, void **state) { return (void)of, released(state); }
EXPORT int fmi3SerializedFMUStateSize(Instance *of, void *state, size_t *size) {
    return (void)state, *size = sizeof of->known, OK;
}
EXPORT int fmi3SerializeFMUState(Instance *of, void *state, uint8_t *bytes, size_t size) {
    return written(of, state, bytes, size);
}
EXPORT int fmi3DeserializeFMUState(Instance *of, const uint8_t *bytes, size_t size, void **state) {
    return read(of, bytes, size, state);
}
NOTHING(fmi3SetDebugLogging) NOTHING(fmi3Terminate) NOTHING(fmi3EnterStepMode)
NOTHING(fmi3EnterEventMode) NOTHING(fmi3EnterConfigurationMode) NOTHING(fmi3ExitConfigurationMode)
EXPORT void *fmi3InstantiateModelExchange(void) { return NULL; }
EXPORT void *fmi3InstantiateScheduledExecution(void) { return NULL; }
#define EACH(type) NOT_THERE(fmi3Get##type) NOT_THERE(fmi3Set##type)
EACH(Float32) EACH(Int8) EACH(UInt8) EACH(Int16) EACH(UInt16) EACH(Int32) EACH(UInt32) EACH(Int64)
EACH(UInt64) EACH(Boolean) EACH(String) EACH(Binary) EACH(Clock) EACH(IntervalDecimal)
EACH(IntervalFraction) EACH(ShiftDecimal) EACH(ShiftFraction) EACH(ContinuousStates)
NOT_THERE(fmi3GetNumberOfVariableDependencies) NOT_THERE(fmi3GetVariableDependencies)
NOT_THERE(fmi3GetDirectionalDerivative) NOT_THERE(fmi3GetAdjointDerivative)
NOT_THERE(fmi3GetOutputDerivatives) NOT_THERE(fmi3EvaluateDiscreteStates)
NOT_THERE(fmi3UpdateDiscreteStates) NOT_THERE(fmi3EnterContinuousTimeMode)
NOT_THERE(fmi3CompletedIntegratorStep) NOT_THERE(fmi3SetTime)
NOT_THERE(fmi3GetContinuousStateDerivatives) NOT_THERE(fmi3GetEventIndicators)
NOT_THERE(fmi3GetNominalsOfContinuousStates) NOT_THERE(fmi3GetNumberOfEventIndicators)
NOT_THERE(fmi3GetNumberOfContinuousStates) NOT_THERE(fmi3ActivateModelPartition)

#else

EXPORT const char *fmi2GetVersion(void) { return "2.0"; }
EXPORT const char *fmi2GetTypesPlatform(void) { return "default"; }
EXPORT void *fmi2Instantiate(const char *name, int kind, const char *token, const char *resources,
                             const Callbacks2 *callbacks, int visible, int logging) {
    (void)visible, (void)logging;
    if (kind != 1) return NULL; /* co-simulation */
    Instance with = {.log2 = callbacks->log, .owner = callbacks->environment};
    return begun(name, token, resources, with);
}
EXPORT void fmi2FreeInstance(Instance *of) { if (of) end(of); }
EXPORT int fmi2SetupExperiment(Instance *of, int a, double b, double start, int c, double d) {
    (void)a, (void)b, (void)c, (void)d;
    return of->known.time = start, OK;
}
EXPORT int fmi2ExitInitializationMode(Instance *of) { return tell(of, of->known.time); }
EXPORT int fmi2Reset(Instance *of) { return begin(of), OK; }
EXPORT int fmi2DoStep(Instance *of, double from, double size, int no_more) {
    return (void)no_more, step(of, from, size);
}
EXPORT int fmi2GetReal(Instance *of, const uint32_t *which, size_t count, double *values) {
    return get(of, which, count, values);
}
EXPORT int fmi2SetReal(Instance *of, const uint32_t *which, size_t count, const double *values) {
    return set(of, which, count, values);
}
EXPORT int fmi2GetFMUstate(Instance *of, void **state) { return kept(of, state); }
EXPORT int fmi2SetFMUstate(Instance *of, void *state) { return restored(of, state); }
EXPORT int fmi2FreeFMUstate(Instance *of, void **state) { return (void)of, released(state); }
EXPORT int fmi2SerializedFMUstateSize(Instance *of, void *state, size_t *size) {
    return (void)state, *size = sizeof of->known, OK;
}
EXPORT int fmi2SerializeFMUstate(Instance *of, void *state, uint8_t *bytes, size_t size) {
    return written(of, state, bytes, size);
}
EXPORT int fmi2DeSerializeFMUstate(Instance *of, const uint8_t *bytes, size_t size, void **state) {
    return read(of, bytes, size, state);
}
NOTHING(fmi2SetDebugLogging) NOTHING(fmi2EnterInitializationMode) NOTHING(fmi2Terminate)
#define EACH(type) NOT_THERE(fmi2Get##type) NOT_THERE(fmi2Set##type)
EACH(Integer) EACH(Boolean) EACH(String)
NOT_THERE(fmi2GetDirectionalDerivative) NOT_THERE(fmi2SetRealInputDerivatives)
NOT_THERE(fmi2GetRealOutputDerivatives) NOT_THERE(fmi2CancelStep) NOT_THERE(fmi2GetStatus)
NOT_THERE(fmi2GetRealStatus) NOT_THERE(fmi2GetIntegerStatus) NOT_THERE(fmi2GetBooleanStatus)
NOT_THERE(fmi2GetStringStatus)

#endif
